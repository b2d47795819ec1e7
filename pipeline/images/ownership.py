"""The platform's own registry: which references lead there, whose they are, and what opens it."""

from __future__ import annotations

from pipeline.adapters.http.guarded import GuardedHttp
from pipeline.adapters.http.resolving import is_this_machine
from pipeline.adapters.registry.tokens import PULL, Access, RegistryTokens
from pipeline.adapters.store.store import EVERY_ORG, Store
from pipeline.errors import AddressRefused, InvalidReference, Unreachable
from pipeline.oci import references, repositories
from pipeline.oci.references import Reference
from pipeline.ports import Credentials
from schemas.model import Model


class OwnRegistry:
    """Keeps organisations apart that share one registry."""

    def __init__(
        self, store: Store, tokens: RegistryTokens, http: GuardedHttp | None = None
    ) -> None:
        """Without `http` registries are told apart by their names alone."""
        self._store = store
        self._tokens = tokens
        self._http = http
        self._registry = tokens.registry

    async def require_ones_own(self, org: str, reference: Reference) -> None:
        """Raises InvalidReference for what is kept for another organisation, there or not.

        By its name alone: names are resolved when the image is looked at, by `claim`.
        """
        if repositories.is_same_registry(reference.registry, self._registry):
            await self._require(org, reference)

    async def claim(self, org: str, reference: Reference) -> tuple[Reference, Credentials | None]:
        """The reference as the platform calls it, and what opens its registry for `org`.

        Whatever is not in the platform's registry is left as it is. Raises InvalidReference.
        """
        if not await self._leads_here(reference.registry):
            return reference, None
        await self._require(org, reference)
        here = Reference(self._registry, reference.repository, reference.tag, reference.digest)
        return here, self._tokens.credentials(Access(reference.repository, PULL))

    async def pull_token(self, org: str, *pulled: str) -> str:
        """For pulls of what a container or a build of `org` is made of. Raises InvalidReference."""
        wanted = []
        for text in pulled:
            reference = references.parse(text)
            if not repositories.is_same_registry(reference.registry, self._registry):
                raise InvalidReference(f"{reference} is in another registry.")
            await self._require(org, reference)
            wanted.append(Access(reference.repository, PULL))
        return self._tokens.token(*wanted)

    async def _leads_here(self, registry: str) -> bool:
        if repositories.is_same_registry(registry, self._registry):
            return True
        if self._http is None or not repositories.have_same_port(registry, self._registry):
            return False
        theirs, ours = await self._addresses(registry), await self._addresses(self._registry)
        return bool(theirs & ours)

    async def _addresses(self, registry: str) -> set[str]:
        """All of this machine's are one. None for a name that leads nowhere: neither will we."""
        assert self._http is not None
        try:
            found, _ = await self._http.pinned(f"https://{registry}")
        except (AddressRefused, Unreachable):
            return set()
        return {"" if is_this_machine(address) else address for address in found}

    async def _require(self, org: str, reference: Reference) -> None:
        model = repositories.model_of(reference.repository)
        if repositories.is_kept_for_others(org, reference.repository) or (
            model is not None and await self._is_others_model(org, model)
        ):
            raise InvalidReference(
                f"{reference} is kept for another organisation: send the image itself, or a"
                " reference to where it came from."
            )

    async def _is_others_model(self, org: str, identifier: str) -> bool:
        found = await self._store.find_by_id(Model, identifier, org=EVERY_ORG)
        return found is not None and found.org != org
