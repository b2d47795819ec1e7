"""Types of what is asked and answered: images.

Made of the OpenAPI document by `make docs`.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from modelyard.client.types.common import (
    Finding,
    HealthCheck,
    NodeEligibility,
    Platform,
    PortSpec,
    Progress,
    RequirementsView,
)


class Build(TypedDict):
    """QUEUED → BUILDING → PUSHING → DONE | FAILED. It is tried once."""

    uuid: str
    org: str
    revision: int
    created_at: str
    updated_at: str
    reason: str | None
    status: BuildStatus
    status_since: str | None
    name: str
    spec: BuildSpec
    source: ContextSource
    node: str
    node_name: str
    image: str | None
    code: str | None
    last_lines: str
    output_bytes: int
    created_by: str | None


class BuildSpec(TypedDict):
    """What a caller asks for. The context is a folder of the node or a Git repository; without
    either it comes as a TAR with the request."""

    name: str
    context_path: NotRequired[str | None]
    git_url: NotRequired[str | None]
    git_ref: NotRequired[str | None]
    dockerfile: NotRequired[str]
    target: NotRequired[str | None]
    build_args: NotRequired[dict[str, str]]
    secret: NotRequired[str | None]
    node: NotRequired[str | None]


BuildStatus = Literal["QUEUED", "BUILDING", "PUSHING", "DONE", "FAILED"]


ContextSource = Literal["upload", "folder", "git"]


class Delivery(TypedDict):
    """The version of a model that an image was delivered to."""

    identifier: str
    model_name: str
    version: str
    patience_s: float | None


class DigestList(TypedDict):
    """Layers that a sender has."""

    digests: list[str]


class Image(TypedDict):
    """PENDING → UPLOADING → VALIDATING → READY | FAILED → DELETED."""

    uuid: str
    org: str
    revision: int
    created_at: str
    updated_at: str
    reason: str | None
    status: ImageStatus
    status_since: str | None
    name: str
    named: bool
    superseded_by: str | None
    reference: str
    parts: ReferenceParts
    pinned: str | None
    digest: str | None
    platform: Platform | None
    size_bytes: int | None
    labels: dict[str, str]
    annotations: dict[str, str]
    needs: Needs
    defaults: LaunchDefaults
    requested_platform: str | None
    requested_needs: Needs | None
    gpu_variables: dict[str, str] | None
    secret: str | None
    findings: list[Finding]
    upload: Progress
    load: Progress
    image_labels: dict[str, str]
    image_annotations: dict[str, str]
    has_healthcheck: bool
    source: ImageSource
    delivery: Delivery | None
    catalog: int | None
    created_by: str | None


class ImageNodes(TypedDict):
    """`ImageNodes` of the document."""

    image: NamedImage
    requirements: RequirementsView
    nodes: list[NodeEligibility]


ImageSource = Literal["reference", "archive", "upload"]


class ImageSpec(TypedDict):
    """What a caller asks for when bringing an image by reference."""

    reference: str
    name: NotRequired[str | None]
    platform: NotRequired[str | None]
    secret: NotRequired[str | None]
    needs: NotRequired[Needs | None]
    labels: NotRequired[dict[str, str]]
    defaults: NotRequired[LaunchDefaults]
    annotations: NotRequired[dict[str, str]]


ImageStatus = Literal["PENDING", "UPLOADING", "VALIDATING", "READY", "FAILED", "DELETED"]


class LaunchDefaults(TypedDict):
    """What containers and deployments of an image have where their owner says nothing."""

    gpus: NotRequired[int | None]
    env: NotRequired[dict[str, str | bool | int | float]]
    ports: NotRequired[list[PortSpec]]
    health: NotRequired[HealthCheck | None]


class NamedImage(TypedDict):
    """`NamedImage` of the document."""

    id: str
    name: str
    reference: str


class Needs(TypedDict):
    """What an image declares that it needs in order to run."""

    ports: NotRequired[list[int]]
    gpus: NotRequired[int]
    cuda: NotRequired[str | None]
    driver: NotRequired[str | None]
    compute_capability: NotRequired[str | None]
    memory_bytes: NotRequired[int]


class PresentBlob(TypedDict):
    """`PresentBlob` of the document."""

    digest: str
    size: int


class PresentBlobs(TypedDict):
    """Those of the asked layers that need not be sent."""

    present: list[PresentBlob]


class ReferenceParts(TypedDict):
    """A pull reference, parsed once (`pipeline.oci.references.parse`)."""

    registry: str
    repository: str
    tag: str | None
    digest: str | None


class UploadView(TypedDict):
    """An upload as callers see it."""

    id: str
    name: str | None
    created_at: str
    offset: int
    length: int
    percentage: int
    status: str
    image: UploadedImage | None
    message: str | None
    technicalInformation: str | None


class UploadedImage(TypedDict):
    """What the archive became."""

    name: str | None
    reference: str
    digest: str
