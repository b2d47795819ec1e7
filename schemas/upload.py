"""Uploads that can be resumed: an image archive that arrives in pieces."""

from __future__ import annotations

from typing import ClassVar

from pydantic import AwareDatetime, Field

from schemas.base import Shape, StatefulRecord, Transitions
from schemas.states import UPLOAD_TRANSITIONS, UploadStatus


class UploadWish(Shape):
    """What is to become of the archive."""

    name: str | None = None
    """What the image is called; None: like the chosen RepoTag."""
    filename: str | None = None
    repo_tag: str | None = None
    """Which image of an archive with several."""
    platform: str | None = None
    model: str | None = None
    """With `version`: the version of a model that the image is delivered to."""
    version: str | None = None


class UploadedImage(Shape):
    """What the archive became."""

    reference: str
    digest: str


class Upload(StatefulRecord):
    """RECEIVING → INGESTING → COMPLETED | FAILED.

    How many bytes are here is told by the file that holds them, nowhere else.
    """

    collection: ClassVar[str] = "uploads"
    resource: ClassVar[str] = "upload"
    transitions: ClassVar[Transitions] = UPLOAD_TRANSITIONS

    status: UploadStatus = UploadStatus.RECEIVING
    length: int = Field(ge=0)
    """Bytes of the whole archive."""
    wish: UploadWish
    image: str
    """uuid of the Image that it makes."""
    result: UploadedImage | None = None
    technical: str | None = None
    """Detail of the error that ended it; `reason` says it in a sentence."""
    attempts: int = 0
    """How often it could not be brought into the registry for want of something of ours."""
    retry_at: AwareDatetime | None = None
    created_by: str


class UploadView(Shape):
    """An upload as callers see it."""

    id: str
    offset: int
    length: int
    percentage: int
    status: str
    """receiving, ingesting, completed or failed."""
    image: UploadedImage | None
    message: str | None
    technicalInformation: str | None


class DigestList(Shape):
    """Layers that a sender has."""

    digests: list[str] = Field(max_length=1024)


class PresentBlob(Shape):
    digest: str
    size: int


class PresentBlobs(Shape):
    """Those of the asked layers that need not be sent."""

    present: list[PresentBlob]
