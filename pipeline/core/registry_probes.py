"""One look at a registry of the directory, with the credentials of its entry."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Protocol

from pipeline.core import records
from pipeline.errors import InvalidInput, InvalidReference, Misconfigured, NotFound
from pipeline.ports import Credentials
from pipeline.rules import registry_entries
from schemas.registry import ErrorKind, Registry, RegistryHealth

if TYPE_CHECKING:
    from pipeline.adapters import registry_health
    from pipeline.core.secrets import Secrets

REASON_MAX: Final = 255

log = logging.getLogger(__name__)


class Prober(Protocol):
    """`pipeline.adapters.registry.RegistryClient`, as far as it is needed here."""

    async def ping(
        self, url: str, *, credentials: Credentials | None = None
    ) -> registry_health.RegistryHealth: ...


class RegistryProbe:
    """Whatever a registry does is a fact about it, never a failure of the look."""

    def __init__(self, secrets: Secrets, prober: Prober, clock: records.Clock) -> None:
        self._secrets = secrets
        self._prober = prober
        self._clock = clock

    async def look(self, registry: Registry) -> RegistryHealth:
        """Facts, as of when it began. Raises StoreUnavailable."""
        url = registry.container_registry_public_url
        at = self._clock()
        try:
            found = await self._prober.ping(
                registry_entries.address_of(url), credentials=await self.credentials(registry)
            )
        except InvalidInput as error:
            return RegistryHealth(
                reachable=False,
                reason=error.message,
                url=url,
                checked_at=at,
                error_kind=ErrorKind.OTHER,
            )
        return RegistryHealth(
            reachable=found.reachable,
            status_code=found.status_code,
            reason=found.reason and found.reason[:REASON_MAX],
            url=url,
            oci=found.oci,
            auth_required=found.auth_required,
            credentials_ok=found.credentials_ok,
            latency_ms=found.latency_ms,
            checked_at=at,
            error_kind=None if found.error_kind is None else ErrorKind(found.error_kind),
        )

    async def credentials(self, registry: Registry) -> Credentials | None:
        """None when the entry names no secret, or one that is not for its host."""
        secret = registry.container_registry_secret
        if secret is None:
            return None
        for host in registry_entries.hosts_of(registry.container_registry_public_url):
            try:
                found = await self._secrets.credentials_for(registry.org, secret, host)
            except (NotFound, InvalidReference, Misconfigured) as error:
                log.warning("registry %s is asked anonymously: %s", registry.uuid, error.message)
                return None
            if found is not None:
                return found
        return None
