"""Uploads that can be resumed: an image archive that arrives in pieces."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AwareDatetime, Field, StringConstraints

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

    name: str | None = None
    """What the image is called. Uploads of before it was noted have none."""
    reference: str
    digest: str


class Upload(StatefulRecord, collection="uploads", resource="upload"):
    """RECEIVING → INGESTING → COMPLETED | FAILED.

    How many bytes are here is told by the file that holds them, nowhere else.
    """

    transitions: ClassVar[Transitions] = UPLOAD_TRANSITIONS

    status: UploadStatus = UploadStatus.RECEIVING
    length: int = Field(ge=0)
    """Bytes of the whole archive."""
    wish: UploadWish
    metadata: str | None = None
    """`Upload-Metadata` as it was given. Uploads of before it was noted have none."""
    image: str
    """uuid of the Image that it makes."""
    result: UploadedImage | None = None
    technical: str | None = None
    """Detail of the error that ended it; `reason` says it in a sentence."""
    attempts: int = 0
    """How often it could not be brought into the registry for want of something of ours."""
    retry_at: AwareDatetime | None = None
    created_by: str


Digest = Annotated[str, StringConstraints(pattern=r"^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$")]


class DigestList(Shape):
    """Layers that a sender has."""

    digests: list[Digest] = Field(max_length=1024)


class PresentBlob(Shape):
    digest: str
    size: int


class PresentBlobs(Shape):
    """Those of the asked layers that need not be sent."""

    present: list[PresentBlob]
