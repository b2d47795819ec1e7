"""Registry: an entry of the directory of OCI registries (docs/container-registry-db.md)."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from pydantic import Field

from schemas.base import Record, Shape


class ErrorKind(StrEnum):
    """Why a registry could not be asked."""

    DNS = "dns"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    TLS = "tls"
    REDIRECT = "redirect"
    BLOCKED = "blocked"
    PROTOCOL = "protocol"
    OTHER = "other"


class RegistryHealth(Shape):
    """Facts of one check. Unreachable is a fact, not an error."""

    reachable: bool
    """Any HTTP answer arrived, whatever its status."""
    status_code: int | None = None
    reason: str | None = None
    url: str
    oci: bool = False
    """`/v2/` gave 200, or 401 with `WWW-Authenticate`."""
    auth_required: bool = False
    credentials_ok: bool | None = None
    """None when no credentials were tried."""
    latency_ms: float | None = None
    checked_at: datetime
    error_kind: ErrorKind | None = None

    @property
    def verdict(self) -> tuple[bool, bool, bool | None]:
        """What has to change for a check to be news."""
        return self.reachable, self.oci, self.credentials_ok


class Registry(Record):
    """`container_registry_*` are the caller's own fields, stored flat so that filters reach them.

    `uuid` is the record's identity; `container_registry_id` is the caller's, unique among the
    undeleted entries of the organisation.
    """

    collection: ClassVar[str] = "registries"
    resource: ClassVar[str] = "registry"

    container_registry_id: str
    container_registry_name: str = ""
    container_registry_metadata: dict[str, Any] = Field(default_factory=dict)
    container_registry_tags: list[str] = Field(default_factory=list)
    container_registry_public_url: str
    container_registry_image_prefix: str = ""
    container_registry_config: dict[str, Any] = Field(default_factory=dict)
    container_registry_storage_info: dict[str, Any] = Field(default_factory=dict)
    container_registry_secret: str | None = None
    container_registry_health: RegistryHealth | None = None

    host: str
    """`host[:port]` of the public URL: how an image's reference finds its registry."""
    deleted: bool = False
    check_at: datetime
    """When the next health check is due."""
    failures: int = 0
    """Failed checks in a row; they make the next one later."""
    changed_at: datetime
    """When a caller's field last changed: `updated_at` of the document."""
    created_by: str | None = None


class RegistryHistory(Record):
    """The newest checks of one registry, oldest first; `uuid` is the registry's."""

    collection: ClassVar[str] = "registry_histories"
    resource: ClassVar[str] = "registry-history"

    checks: list[RegistryHealth] = Field(default_factory=list)
