"""Types of what is asked and answered: registries.

Made of the OpenAPI document by `make docs`.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from modelyard.client.types.common import Finding, NodeEligibility, RequirementsView


class CatalogImage(TypedDict):
    """`CatalogImage` of the document."""

    pk: int
    name: str
    version: str


class CatalogNodes(TypedDict):
    """`CatalogNodes` of the document."""

    image: CatalogImage
    requirements: RequirementsView
    nodes: list[NodeEligibility]


class CatalogView(TypedDict):
    """`CatalogView` of the document."""

    image: dict[str, Any]
    revision: int
    created_at: str
    updated_at: str
    validation: ValidationView


class ChecksView(TypedDict):
    """The last hundred checks, newest first."""

    items: list[RegistryHealth]


class EntryView(TypedDict):
    """An entry of the directory; its other fields are for those who keep it."""

    id: str
    uuid: str
    name: str
    public_url: str
    image_prefix: str
    tags: list[str]
    secret: str | None
    health: RegistryHealth | None
    created_at: str
    changed_at: str


ErrorKind = Literal["dns", "refused", "timeout", "tls", "redirect", "blocked", "protocol", "other"]


class RegistryHealth(TypedDict):
    """Facts of one check."""

    reachable: bool
    status_code: int | None
    reason: str | None
    oci: bool
    auth_required: bool
    credentials_ok: bool | None
    latency_ms: float | None
    error_kind: ErrorKind | None
    url: str
    checked_at: str


class RotationView(TypedDict):
    """`RotationView` of the document."""

    resealed: int
    unreadable: list[str]


class SecretRequest(TypedDict):
    """`SecretRequest` of the document."""

    name: str
    secret_type: NotRequired[SecretType]
    data: dict[str, str]


class SecretSummary(TypedDict):
    """What may be shown of a secret."""

    uuid: str
    name: str
    secret_type: SecretType
    server: str
    org: str
    reference_count: int
    login: Finding | None
    created_at: str
    updated_at: str


SecretType = Literal["docker_hub", "depot", "nvidiadockersecret", "registry"]


class SecretsView(TypedDict):
    """`SecretsView` of the document."""

    items: list[SecretSummary]


ValidationStatus = Literal["PENDING", "VALIDATING", "READY", "FAILED"]


class ValidationView(TypedDict):
    """What a worker found out about the image."""

    status: ValidationStatus
    code: str | None
    detail: str | None
    digest: str | None
    findings: list[Finding]
    checked_at: str | None
    revision: int | None
