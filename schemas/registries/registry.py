"""Registry: an entry of the directory of OCI registries (docs/container-registry-db.md); and what
the platform's own registry holds."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import AwareDatetime, BeforeValidator, Field

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


class PingResult(Shape):
    """What one look at `/v2/` shows. Unreachable is a fact, not an error."""

    reachable: bool
    """Any HTTP answer arrived, whatever its status."""
    status_code: int | None = None
    reason: str | None = None
    """Of that answer, or why there is none."""
    oci: bool = False
    """`/v2/` gave 200, or 401 with `WWW-Authenticate`."""
    auth_required: bool = False
    credentials_ok: bool | None = None
    """None when none were tried, or when trying them led to no answer."""
    latency_ms: float | None = None
    error_kind: ErrorKind | None = None


class RegistryHealth(PingResult):
    """Facts of one check."""

    url: str
    checked_at: datetime

    @property
    def verdict(self) -> tuple[bool, bool, bool | None]:
        """What has to change for a check to be news."""
        return self.reachable, self.oci, self.credentials_ok


class Ask(Shape):
    """Somebody waits for the result of a check that begins after this."""

    id: str
    actor: str


class Registry(Record, collection="registries", resource="registry"):
    """`container_registry_*` are the caller's own fields, stored flat so that filters reach them.

    `uuid` is the record's identity; `id` is the caller's, unique among the
    undeleted entries of the organisation. What is deleted stays for a while without its content,
    until its last event is sent.
    """

    facts: ClassVar = ("id", "uuid", "name", "public_url")

    id: str
    name: str = ""
    metadata: JsonObject = Field(default_factory=dict)
    tags: list[str] = Field(default_factory=list)
    public_url: str
    image_prefix: str = ""
    config: JsonObject = Field(default_factory=dict)
    storage_info: JsonObject = Field(default_factory=dict)
    secret: str | None = None
    health: RegistryHealth | None = None

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
    applied: list[str] = Field(default_factory=list)
    """Ids of the newest commands that changed it: one that comes again finds itself here."""
    asked: list[Ask] = Field(default_factory=list)
    """Checks that were asked for and not yet answered."""


class RegistryHistory(Record, collection="registry_histories", resource="registry-history"):
    """The newest checks of one registry, oldest first; `uuid` is the registry's."""

    checks: list[RegistryHealth] = Field(default_factory=list)


class Lease(Shape):
    """Somebody is at work, unless `until` has passed: then his process is taken for dead."""

    id: str
    until: AwareDatetime
    manifest: str | None = None
    """`repository@digest` that is about to be written or removed."""


class RegistrySpace(Record, collection="registry_space", resource="registry-space"):
    """What the platform's own registry holds, and who changes it right now: one record."""

    pushes: list[Lease] = Field(default_factory=list)
    """Archives on their way in: their blobs may not be referred to yet."""
    removals: list[Lease] = Field(default_factory=list)
    """Manifests that are being removed."""
    collector: Lease | None = None
    """While it is there, no push begins."""
    used_bytes: int | None = None
    """Of blobs; None while nobody has looked, as for a registry that others run."""
    reclaimable_bytes: int | None = None
    """Of blobs that no manifest refers to; those of pushes under way count, too."""
    measured_at: datetime | None = None
    asked_at: datetime | None = None
    """Somebody wants the space back now."""
    collected_at: datetime | None = None
    """End of the last collection."""
    freed_bytes: int | None = None
    """By that one."""
