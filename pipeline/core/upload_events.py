"""What is said about an image while its archive arrives."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pipeline.core import model_events
from pipeline.core.images import announce
from schemas.image import Image
from schemas.message import Message
from schemas.states import ImageStatus


def started(image: Image, *, at: datetime, actor: str | None) -> list[Message]:
    """Of an image that is about to be inserted."""
    made = announce(image, "created", at=at, actor=actor, revision=1)
    if image.delivery is not None:
        return [made, model_events.started(image, at=at, actor=actor)]
    return [made, _told(image, "upload.started", at=at, actor=actor, revision=1)]


def progressed(after: Image, *, at: datetime, revision: int) -> list[Message]:
    """Of `after` as the write that announces it will leave it."""
    if after.delivery is not None:
        return [model_events.progressed(after, at=at, actor=after.created_by, revision=revision)]
    return [_told(after, "upload.progressed", at=at, actor=after.created_by, revision=revision)]


def validating(after: Image, *, at: datetime, revision: int) -> list[Message]:
    return [announce(after, "validating", at=at, actor=after.created_by, revision=revision)]


def settled(after: Image, *, at: datetime, revision: int) -> list[Message]:
    """READY, or a failure of which nothing is kept."""
    is_ready = after.status is ImageStatus.READY
    actor = after.created_by
    facts = {"digest": after.digest, "size_bytes": after.size_bytes}
    kind = "ready" if is_ready else "failed"
    first = announce(after, kind, at=at, actor=actor, revision=revision, **facts)
    if after.delivery is not None:
        return [first, *model_events.settled(after, at=at, actor=actor, revision=revision)]
    kind = "upload.completed" if is_ready else "upload.failed"
    return [first, _told(after, kind, at=at, actor=actor, revision=revision, **facts)]


def _told(
    image: Image, kind: str, *, at: datetime, actor: str | None, revision: int, **facts: Any
) -> Message:
    progress = image.upload.model_dump()
    codes = [finding.code for finding in image.findings if finding.severity == "error"]
    if codes:
        facts["code"] = codes[0]
    return announce(image, kind, at=at, actor=actor, revision=revision, progress=progress, **facts)
