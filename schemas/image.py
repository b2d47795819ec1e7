"""Image: what somebody brought, where it lies, and what was found out about it; the uploads in
which archives arrive in pieces, and builds: Dockerfiles on their way to an image."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar, Final

from pydantic import AwareDatetime, Field, StringConstraints
from pydantic.config import JsonDict

from schemas.base import (
    Annotations,
    Labels,
    Mark,
    Progress,
    Shape,
    StatefulRecord,
    Title,
    Transitions,
)
from schemas.container import LaunchDefaults
from schemas.states import (
    BUILD_TRANSITIONS,
    IMAGE_TRANSITIONS,
    UPLOAD_TRANSITIONS,
    BuildStatus,
    ImageStatus,
    UploadStatus,
)


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
    """Least CUDA version, `major.minor`, of the easiest alternative of what the image requires."""
    driver: str | None = None
    """Least driver version, dotted integers."""
    compute_capability: str | None = None
    memory_bytes: int = Field(default=0, ge=0)


class ReferenceParts(Shape):
    """A pull reference, parsed once (`pipeline.oci.references.parse`)."""

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


_PART: Final = "[A-Za-z0-9_.]{1,32}"
PLATFORM: Final = f"^({_PART}/)?(x86-64|{_PART})(/{_PART})?$"
"""For documentation: refusals are worded where a platform is read."""


_VERSION: Final[JsonDict] = {"pattern": r"^(\s*\d|$)"}
_ASKED_NEEDS: Final[JsonDict] = {
    "properties": {
        "ports": {"maxItems": 128, "items": {"minimum": 1, "maximum": 65535}},
        "gpus": {"maximum": 1024},
        "cuda": _VERSION,
        "driver": _VERSION,
        "compute_capability": _VERSION,
        "memory_bytes": {"maximum": 2**60},
    }
}
"""For documentation: what images themselves declare may be more."""


CLIENTS_OWN: Final = "imported-container"
"""The annotation with what clients of imported containers said. Requests do not bring it: it is
read again, so it has to be what their door made of it."""


class ImageSpec(Shape):
    """What a caller asks for when bringing an image by reference."""

    reference: str = Field(min_length=1, max_length=512, examples=["127.0.0.1:5000/team/model:1.0"])
    name: Title | None = None
    platform: str | None = Field(
        default=None, examples=["linux/amd64"], json_schema_extra={"pattern": PLATFORM}
    )
    secret: str | None = None
    """Name or uuid of a stored registry secret of the organisation."""
    needs: Needs | None = Field(default=None, json_schema_extra=_ASKED_NEEDS)
    """Overrides of what the image declares, member by member; 0 and empty leave it as declared."""
    labels: Labels = Field(default_factory=dict)
    defaults: LaunchDefaults = Field(default_factory=LaunchDefaults)
    annotations: Annotated[Annotations, Mark.CONCEALED] = Field(default_factory=dict)


class Image(StatefulRecord, collection="images", resource="image"):
    """PENDING → UPLOADING → VALIDATING → READY | FAILED → DELETED."""

    transitions: ClassVar[Transitions] = IMAGE_TRANSITIONS
    facts: ClassVar = ("name", "reference", "status", "reason")

    status: ImageStatus = ImageStatus.PENDING
    name: str
    """As given by the caller, else the reference."""
    named: bool = False
    """True when it was brought by reference under a chosen name: then it is unique in the
    organisation. Other names behave like tags: the newest READY image has them."""
    superseded_by: str | None = None
    """uuid of the newer image that has its name now; it is still found by uuid and by digest."""
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
    annotations: Annotations = Field(default_factory=dict)
    needs: Needs = Field(default_factory=Needs)
    defaults: LaunchDefaults = Field(default_factory=LaunchDefaults)
    requested_platform: str | None = None
    requested_needs: Needs | None = None
    gpu_variables: dict[str, str] | None = None
    """Of its environment, what NVIDIA's container toolkit reads; None in records of before."""
    secret: str | None = None
    """uuid of the registry secret."""
    findings: list[Finding] = Field(default_factory=list)
    last_failure: str | None = None
    """Why the last try to validate it came to nothing (`pipeline.adapters.http.faults.Kind`), while
    there will be another. Not shown."""
    upload: Progress = Field(default_factory=Progress)
    upload_told: int = 0
    """The percentage of the upload that an event told last, and when that was. Not shown."""
    upload_told_at: datetime | None = None
    unregistered_at: datetime | None = None
    """Of a deleted archive: when the platform's registry had let go of its manifest. Not shown."""
    load: Progress = Field(default_factory=Progress)
    image_labels: Mapping[str, str] = Field(default_factory=dict)
    """Labels in the image's own configuration."""
    image_annotations: Mapping[str, str] = Field(default_factory=dict)
    """Annotations of its manifest."""
    has_healthcheck: bool = False
    source: ImageSource = ImageSource.REFERENCE
    delivery: Delivery | None = None
    """None unless it was delivered to a version of a model."""
    catalog: int | None = None
    """`pk` of the entry of the catalogue that it was brought for."""
    times_used: int = 0
    """How many deployments were made of it, ever: who deletes it sees whether one came
    meanwhile. Not shown."""
    created_by: str | None = None


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


class ContextSource(StrEnum):
    UPLOAD = "upload"
    """A TAR that came with the request."""
    FOLDER = "folder"
    """A folder of the node."""
    GIT = "git"


class BuildSpec(Shape):
    """What a caller asks for. The context is a folder of the node or a Git repository; without
    either it comes as a TAR with the request."""

    name: Title
    """Of the image. It behaves like a tag: the newest image has it."""
    context_path: str | None = Field(
        default=None, json_schema_extra={"pattern": r"^/[^\x00]*$", "maxLength": 4096}
    )
    """A folder of the node, below one of its `MODELYARD_BUILD_ROOTS`."""
    git_url: str | None = Field(
        default=None,
        json_schema_extra={"pattern": r"^https://[^\s\x00-\x1f/?#@]+/[^\s\x00-\x1f]*$"},
        examples=["https://git.example.com/team/model.git"],
        max_length=2048,
    )
    git_ref: str | None = Field(
        default=None,
        json_schema_extra={"pattern": r"^[A-Za-z0-9_][A-Za-z0-9_./@+-]*$"},
        max_length=255,
    )
    """A branch, tag or commit; None: the repository's own choice."""
    dockerfile: str = Field(
        default="Dockerfile",
        min_length=1,
        max_length=1024,
        json_schema_extra={"pattern": r"^[A-Za-z0-9_][A-Za-z0-9_./-]*$"},
    )
    """Its path in the context."""
    target: str | None = Field(
        default=None, min_length=1, max_length=255, json_schema_extra={"pattern": r"^[!-~]+$"}
    )
    """The stage of the Dockerfile that is wanted; None: the last one."""
    build_args: Annotated[dict[str, str], Mark.CONCEALED] = Field(
        default_factory=dict,
        json_schema_extra={
            "maxProperties": 100,
            "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]{0,254}$"},
            "additionalProperties": {"type": "string", "pattern": r"^[^\x00]*$"},
        },
    )
    """Values of the Dockerfile's ARG. They stand in the image's history: no place for secrets."""
    secret: str | None = None
    """Name or uuid of a stored registry secret that opens the registries of the base images."""
    node: str | None = None
    """uuid or name of the node that builds; None: any that is ready."""

    @property
    def source(self) -> ContextSource:
        if self.git_url is not None:
            return ContextSource.GIT
        return ContextSource.UPLOAD if self.context_path is None else ContextSource.FOLDER


class Build(StatefulRecord, collection="builds", resource="build"):
    """QUEUED → BUILDING → PUSHING → DONE | FAILED. It is tried once."""

    transitions: ClassVar[Transitions] = BUILD_TRANSITIONS
    facts: ClassVar = ("name", "status", "reason", "node_name", "image")

    status: BuildStatus = BuildStatus.QUEUED
    name: str
    """Of the image."""
    spec: BuildSpec
    source: ContextSource
    node: str
    node_name: str
    image: str | None = None
    """uuid of the image that it became."""
    code: str | None = None
    """Of the error that ended it; `reason` says it in a sentence."""
    last_lines: str = ""
    """Of its output: the end, a few KiB."""
    output_bytes: int = 0
    """That were told in events; what came after `MODELYARD_BUILD_OUTPUT_MAX_BYTES` was not."""
    bases: list[str] = Field(default_factory=list)
    """References that it may pull from the platform's registry. Not shown."""
    pull_key: str | None = Field(default=None, repr=False)
    """Hash of what opens that registry for it while it builds. Not shown."""
    created_by: str | None = None
