"""What lies in a registry of the directory: repositories and their tags, page by page."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from pipeline.core.paging import Page
from pipeline.errors import InvalidInput, ManifestNotFound, NotFound
from pipeline.rules import references, registry_entries
from schemas.access import Principal

if TYPE_CHECKING:
    from pipeline.adapters.registry import RegistryClient
    from pipeline.core.registries import Registries
    from pipeline.core.registry_probes import RegistryProbe
    from schemas.registry import Registry


class RegistryCatalogue:
    """Asks the registry each time, with the credentials of the entry. Many deny the list of
    repositories and still list the tags of one."""

    def __init__(
        self, registries: Registries, client: RegistryClient, probe: RegistryProbe
    ) -> None:
        self._registries = registries
        self._client = client
        self._probe = probe

    async def repositories(
        self, caller: Principal, id: str, *, limit: int, cursor: str | None
    ) -> Page[str]:
        """Raises NotFound, InvalidInput, and what `RegistryClient` raises."""
        registry = await self._registries.get(caller, id)
        place = _Place(registry)
        found = await self._client.catalog(
            place.host,
            credentials=await self._probe.credentials(registry),
            most=limit + 1,
            after=_after(cursor),
            scheme=place.scheme,
            prefix=place.prefix,
        )
        return _page(found, limit)

    async def tags(
        self, caller: Principal, id: str, repository: str, *, limit: int, cursor: str | None
    ) -> Page[str]:
        """Raises as `repositories` does, and NotFound for an unknown repository."""
        registry = await self._registries.get(caller, id)
        place = _Place(registry)
        missing = NotFound(f"There is no repository {repository[:255]}.")
        if not references.is_repository(repository):
            raise missing
        try:
            found = await self._client.tags(
                place.host,
                repository,
                credentials=await self._probe.credentials(registry),
                most=limit + 1,
                after=_after(cursor),
                scheme=place.scheme,
                prefix=place.prefix,
            )
        except ManifestNotFound as error:
            raise missing from error
        return _page(found, limit)


class _Place:
    """Where an entry's registry is asked."""

    def __init__(self, registry: Registry) -> None:
        address = registry_entries.address_of(registry.container_registry_public_url)
        parts = urlsplit(address)
        self.scheme: Literal["http", "https"] = "http" if parts.scheme == "http" else "https"
        self.host = parts.netloc
        self.prefix = parts.path
        """Before `/v2/`."""


def _page(found: list[str], limit: int) -> Page[str]:
    more = len(found) > limit
    return Page(found[:limit], _cursor(found[limit - 1]) if more else None)


def _cursor(last: str) -> str:
    return base64.urlsafe_b64encode(last.encode()).decode().rstrip("=")


def _after(cursor: str | None) -> str | None:
    """The last name that the caller has seen."""
    if cursor is None:
        return None
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except ValueError as error:
        raise InvalidInput(
            "This cursor is not one that we gave out: start at the first page.", field="cursor"
        ) from error
