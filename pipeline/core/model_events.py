"""Events about the image of a model's version: upload, load test, trial run."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pipeline.rules import container_image, topology
from schemas.base import Record
from schemas.commands import VersionOrder
from schemas.image import Image
from schemas.message import Message
from schemas.model import LoadTest, ModelVersion
from schemas.states import ImageStatus

_UPLOADS = {ImageStatus.READY: "upload.completed", ImageStatus.FAILED: "upload.failed"}


def started(image: Image, *, at: datetime, actor: str | None) -> Message:
    """Of the delivery that makes `image`."""
    return _event(image, image, LoadTest(), "upload.started", 1, at, actor)


def progressed(image: Image, *, at: datetime, actor: str | None, revision: int) -> Message:
    return _event(image, image, LoadTest(), "upload.progressed", revision, at, actor)


def settled(image: Image, *, at: datetime, actor: str | None, revision: int) -> list[Message]:
    """What is to be said when `image`, as it will be, was delivered to a version."""
    kind = _UPLOADS.get(image.status)
    if container_image.has_failed(image):
        kind = "upload.failed"
    if image.delivery is None or kind is None:
        return []
    return [_event(image, image, LoadTest(), kind, revision, at, actor)]


def about(
    version: ModelVersion, image: Image, kind: str, *, at: datetime, actor: str | None
) -> Message:
    """Of `version` as the write that announces it will leave it, `kind` like `load.started`."""
    # Numbers of one record rise: those of the version go on where the image's ended.
    revision = image.revision + version.revision
    return _event(version, image, version.load, kind, revision, at, actor)


def order(
    after: ModelVersion, verb: str, attempt: str | None, *, at: datetime, actor: str | None
) -> Message:
    """What a worker must do about `after`, the version as the write that orders it leaves it."""
    which = VersionOrder(identifier=after.model, version=after.version, attempt=attempt)
    return Message(
        id=f"{after.uuid}.{after.revision}.cmd-{verb}.{attempt}",
        subject=topology.command(after.org, Image.resource, verb),
        type=f"modelyard.cmd.{Image.resource}.{verb}",
        time=at,
        actor=actor,
        data=which.model_dump(),
    )


def _event(
    record: Record,
    image: Image,
    load: LoadTest,
    kind: str,
    revision: int,
    at: datetime,
    actor: str | None,
) -> Message:
    assert image.delivery is not None, "only delivered images have these events"
    shown = container_image.describe(image, load)
    data: dict[str, Any] = {
        "id": image.uuid,
        "org": image.org,
        "revision": revision,
        "name": image.delivery.model_name,
        "status": shown["status"],
        "identifier": image.delivery.identifier,
        "version": image.delivery.version,
        "containerImage": shown,
    }
    return Message(
        id=f"{record.uuid}.{revision}.{kind}",
        subject=topology.event(image.org, Image.resource, image.uuid, kind),
        type=f"modelyard.{Image.resource}.{kind}",
        time=at,
        actor=actor,
        data=data,
    )
