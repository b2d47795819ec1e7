"""The images that a build starts from: whether it may, and what opens their registries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from pipeline.adapters.http.guarded import GuardedHttp
from pipeline.adapters.store.store import Store
from pipeline.containers import pulls
from pipeline.errors import BuildFailed, InvalidReference
from pipeline.images.ownership import OwnRegistry
from pipeline.oci import references, repositories
from pipeline.oci.references import Reference
from pipeline.ports import Credentials
from pipeline.registries.service import SecretsOfHosts
from pipeline.secrets.service import Secrets
from schemas.image import Build

HUB_LOGIN: Final = "https://index.docker.io/v1/"
"""How engines call Docker Hub where logins are concerned."""


@dataclass(frozen=True, slots=True)
class Opened:
    own: Sequence[str]
    """References into the platform's registry, as `Build.bases` keeps them."""
    logins: Sequence[Credentials]
    key: str | None
    """Hash of the key with which the engine opens the platform's registry."""


class Bases:
    """Safe to share."""

    def __init__(
        self, store: Store, secrets: Secrets, own: OwnRegistry, http: GuardedHttp, *, registry: str
    ) -> None:
        """`http` judges the addresses of registries; `registry` is the platform's own."""
        self._of_hosts = SecretsOfHosts(store)
        self._secrets = secrets
        self._own = own
        self._http = http
        self._registry = registry.lower()

    async def open(self, build: Build, bases: Sequence[str]) -> Opened:
        """Raises BuildFailed for what is no reference or kept for another organisation,
        AddressRefused, Unreachable for a registry without an address, NotFound, Misconfigured."""
        own: list[str] = []
        logins: dict[str, Credentials] = {}
        key: str | None = None
        for base in bases:
            reference = await self._allowed(build, base)
            if repositories.is_same_registry(reference.registry, self._registry):
                own.append(base)
                if key is None:
                    key, own_login = pulls.login(reference.registry, build)
                logins[reference.registry] = replace(own_login, server=reference.registry)
                continue
            await self._http.pinned(f"https://{reference.registry}")
            if (login := await self._login(build, reference)) is not None:
                logins[reference.registry] = login
        return Opened(own, list(logins.values()), key)

    async def _allowed(self, build: Build, base: str) -> Reference:
        try:
            reference = references.parse(base)
            await self._own.require_ones_own(build.org, reference)
        except InvalidReference as error:
            raise BuildFailed(f"The base image {base}: {error.message}") from error
        return reference

    async def _login(self, build: Build, reference: Reference) -> Credentials | None:
        wanted = build.spec.secret or await self._of_hosts.find(build.org, reference)
        if wanted is None:
            return None
        host = reference.registry
        found = await self._secrets.credentials_for(build.org, wanted, host)
        if found is None:
            return None
        server = HUB_LOGIN if host == references.DOCKER_HUB else host
        return Credentials(server, found.username, found.password)
