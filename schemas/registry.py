"""Registry: an entry of the directory of OCI registries (docs/container-registry-db.md)."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from schemas.base import Record, Shape


def _plain(value: Any) -> Any:
    """Whole numbers as such: the driver has a class of its own for large ones."""
    match value:
        case dict():
            return {key: _plain(each) for key, each in value.items()}
        case list():
            return [_plain(each) for each in value]
        case int() if not isinstance(value, bool):
            return int(value)
        case _:
            return value


JsonObject = Annotated[dict[str, Any], BeforeValidator(_plain)]


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


class Ask(Shape):
    """Somebody waits for the result of a check that begins after this."""

    id: str
    actor: str


class Registry(Record):
    """`container_registry_*` are the caller's own fields, stored flat so that filters reach them.

    `uuid` is the record's identity; `container_registry_id` is the caller's, unique among the
    undeleted entries of the organisation. What is deleted stays for a while without its content,
    until its last event is sent.
    """

    collection: ClassVar[str] = "registries"
    resource: ClassVar[str] = "registry"

    container_registry_id: str
    container_registry_name: str = ""
    container_registry_metadata: JsonObject = Field(default_factory=dict)
    container_registry_tags: list[str] = Field(default_factory=list)
    container_registry_public_url: str
    container_registry_image_prefix: str = ""
    container_registry_config: JsonObject = Field(default_factory=dict)
    container_registry_storage_info: JsonObject = Field(default_factory=dict)
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
    request_hash: str = ""
    """Of the request that made it: tells a repeat from a reused key."""
    applied: list[str] = Field(default_factory=list)
    """Ids of the newest commands that changed it: one that comes again finds itself here."""
    asked: list[Ask] = Field(default_factory=list)
    """Checks that were asked for and not yet answered."""


class RegistryHistory(Record):
    """The newest checks of one registry, oldest first; `uuid` is the registry's."""

    collection: ClassVar[str] = "registry_histories"
    resource: ClassVar[str] = "registry-history"

    checks: list[RegistryHealth] = Field(default_factory=list)
