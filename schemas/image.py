"""Image: what somebody brought, where it lies, and what was found out about it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from schemas.base import Labels, Name, Shape, StatefulRecord, Transitions
from schemas.states import IMAGE_TRANSITIONS, ImageStatus


class Severity(StrEnum):
    ERROR = "error"
    """The image cannot be used."""
    WARNING = "warning"
    """It can be used; somebody should look."""
    INFO = "info"


class Finding(Shape):
    """One thing that a validator saw. A validator returns all of them, not the first."""

    code: str
    """Stable snake_case, for instance `layer_missing`."""
    severity: Severity
    message: str
    """One sentence that says what to do about it."""


class Platform(Shape):
    """OCI platform, for instance linux/amd64."""

    os: str = "linux"
    architecture: str
    variant: str | None = None

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


class Needs(Shape):
    """What an image declares that it needs in order to run."""

    ports: list[int] = Field(default_factory=list)
    """TCP ports of `EXPOSE`."""
    gpus: int = Field(default=0, ge=0)
    cuda: str | None = None
    """Least CUDA version, `major.minor`, from `NVIDIA_REQUIRE_CUDA` or `CUDA_VERSION`."""
    driver: str | None = None
    """Least driver version, dotted integers."""
    compute_capability: str | None = None
    memory_bytes: int = Field(default=0, ge=0)


class Progress(Shape):
    """How far a long step is. Integers that never fall within one attempt."""

    done_bytes: int = Field(default=0, ge=0)
    total_bytes: int | None = None
    percentage: int = Field(default=0, ge=0, le=100)


class ReferenceParts(Shape):
    """A pull reference, parsed once (`pipeline.rules.references.parse`)."""

    registry: str
    """`host[:port]`; Docker Hub is `registry-1.docker.io`."""
    repository: str
    """Whole repository path, `library/nginx`."""
    tag: str | None = None
    digest: str | None = None


class ImageSource(StrEnum):
    REFERENCE = "reference"
    """It lies in a registry, ours or another one."""
    ARCHIVE = "archive"
    """It came as an archive in one request."""
    UPLOAD = "upload"
    """It came as an archive in an upload that can be resumed."""


class Delivery(Shape):
    """The version of a model that an image was delivered to."""

    identifier: str
    """Of the model."""
    model_name: str
    version: str
    patience_s: float | None = None
    """How long its registry may stay silent; None: as long as for every image."""


class ImageSpec(Shape):
    """What a caller asks for when bringing an image by reference."""

    reference: str = Field(min_length=1, max_length=512, examples=["127.0.0.1:5000/team/model:1.0"])
    name: Name | None = None
    platform: str | None = Field(default=None, examples=["linux/amd64"])
    secret: str | None = None
    """Name or uuid of a stored registry secret of the organisation."""
    needs: Needs | None = None
    """Overrides of what the image declares, member by member; 0 and empty leave it as declared."""
    labels: Labels = Field(default_factory=dict)


class Image(StatefulRecord):
    """PENDING → UPLOADING → VALIDATING → READY | FAILED → DELETED."""

    collection: ClassVar[str] = "images"
    resource: ClassVar[str] = "image"
    transitions: ClassVar[Transitions] = IMAGE_TRANSITIONS

    status: ImageStatus = ImageStatus.PENDING
    name: str
    """As given by the caller, else the reference."""
    named: bool = False
    """True when the caller chose the name: then it is unique in the organisation."""
    reference: str
    """As given by the caller."""
    parts: ReferenceParts
    pinned: str | None = None
    """`registry/repository@sha256:…` found at validation: what nodes pull."""
    digest: str | None = None
    platform: Platform | None = None
    size_bytes: int | None = None
    """Config plus compressed layers."""
    labels: Labels = Field(default_factory=dict)
    needs: Needs = Field(default_factory=Needs)
    requested_platform: str | None = None
    requested_needs: Needs | None = None
    secret: str | None = None
    """uuid of the registry secret."""
    findings: list[Finding] = Field(default_factory=list)
    upload: Progress = Field(default_factory=Progress)
    load: Progress = Field(default_factory=Progress)
    image_labels: Mapping[str, str] = Field(default_factory=dict)
    """Labels in the image's own configuration."""
    image_annotations: Mapping[str, str] = Field(default_factory=dict)
    """Annotations of its manifest."""
    has_healthcheck: bool = False
    source: ImageSource = ImageSource.REFERENCE
    delivery: Delivery | None = None
    """None unless it was delivered to a version of a model."""
    request_hash: str | None = None
    """Fingerprint of the request that made it, to tell a retry from a reused key."""
    created_by: str | None = None
