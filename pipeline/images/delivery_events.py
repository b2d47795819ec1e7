"""Events about an image that comes, and about the version of a model that it is for."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from pipeline import topology
from pipeline.records import messages
from pipeline.records.messages import Draft, event
from schemas.base import Record
from schemas.image import Image, Severity
from schemas.message import Message
from schemas.model import LoadTest, ModelVersion
from schemas.states import ImageStatus

VIEW: Final = "container-image"
"""Gets the image and the load test of its version."""


def upload(kind: str, **facts: Any) -> Draft:
    """`upload.<kind>` of an image that comes; of one for a version it shows the version's state."""

    def draft(image: Image, at: datetime, actor: str | None) -> Message:
        if image.delivery is not None:
            return _event(image, image, LoadTest(), f"upload.{kind}", image.revision, at, actor)
        errors = [each.code for each in image.findings if each.severity is Severity.ERROR]
        code = {"code": errors[0]} if errors else {}
        progress = image.upload.model_dump()
        return event(f"upload.{kind}", progress=progress, **code, **facts)(image, at, actor)

    return draft


def delivered(image: Image, at: datetime, actor: str | None) -> Message:
    """A draft: the delivery is over. Of an image that is READY, or has failed."""
    outcome = "failed" if has_failed(image) else "completed"
    return upload(outcome)(image, at, actor)


def about(image: Image, kind: str) -> Draft:
    """Of the version that `image` was delivered to; `kind` is like `load.started`."""

    def draft(version: ModelVersion, at: datetime, actor: str | None) -> Message:
        # Numbers of one record rise: those of the version go on where the image's ended.
        revision = image.revision + version.revision
        return _event(version, image, version.load, kind, revision, at, actor)

    return draft


def has_failed(image: Image) -> bool:
    """The delivery came to nothing. Of a failed archive nothing is kept but the reason."""
    if image.status is ImageStatus.DELETED:
        return image.digest is None
    return image.status is ImageStatus.FAILED


def failure_detail(image: Image) -> str:
    """Never empty."""
    findings = "\n".join(f"{finding.code}: {finding.message}" for finding in image.findings)
    return findings or image.reason or "The delivery ended without a reason."


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
    data: dict[str, Any] = {
        "id": image.uuid,
        "org": image.org,
        "revision": revision,
        "name": image.delivery.model_name,
        "status": image.status.value,
        "identifier": image.delivery.identifier,
        "version": image.delivery.version,
    }
    return Message(
        id=f"{record.uuid}.{revision}.{kind}",
        subject=topology.event(image.org, Image.resource, image.uuid, kind),
        type=f"modelyard.{Image.resource}.{kind}",
        time=at,
        actor=actor,
        data={**data, **messages.view(VIEW, image, load)},
    )
