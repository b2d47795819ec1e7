"""What a registry has under a reference, without that anything is recorded of it."""

from __future__ import annotations

import re
from typing import Final

from pipeline.adapters.registry.client import RegistryClient
from pipeline.adapters.store.store import Store
from pipeline.errors import ImageRejected, InvalidReference, ManifestNotFound, RegistryDenied
from pipeline.images.ownership import OwnRegistry
from pipeline.oci import references
from pipeline.oci.references import Reference
from pipeline.ports import Credentials
from pipeline.registries.service import SecretsOfHosts
from pipeline.secrets.service import Secrets
from schemas.access import Principal

TAGS_MAX: Final = 10_000


class ImageLookup:
    """Acts for the organisation of its caller, with the secrets that open a registry to it."""

    def __init__(
        self, store: Store, registry: RegistryClient, secrets: Secrets, own: OwnRegistry
    ) -> None:
        self._of_hosts = SecretsOfHosts(store)
        self._registry = registry
        self._secrets = secrets
        self._own = own

    async def is_pullable(self, caller: Principal, text: str) -> bool:
        """Whether a node could pull it; False for what is absent, denied, or no image.

        Raises InvalidReference, AddressRefused, RegistryUnavailable, RegistryProtocolError.
        """
        parts = references.parse(text)
        try:
            reference, credentials = await self._opened(caller, parts, None)
            await self._registry.resolve(reference, credentials=credentials)
        except (ManifestNotFound, RegistryDenied, ImageRejected):
            return False
        except InvalidReference:
            # Well-formed, and kept for somebody else.
            return False
        return True

    async def tags(self, caller: Principal, parts: Reference, secret: str | None) -> list[str]:
        """As `RegistryClient.tags`, up to `TAGS_MAX`; `secret`: uuid or name of one.

        Raises what that raises, NotFound for the secret, and InvalidReference for what is kept for
        somebody else.
        """
        reference, credentials = await self._opened(caller, parts, secret)
        return await self._registry.tags(
            reference.registry, reference.repository, credentials=credentials, most=TAGS_MAX
        )

    async def _opened(
        self, caller: Principal, parts: Reference, secret: str | None
    ) -> tuple[Reference, Credentials | None]:
        reference, credentials = await self._own.claim(caller.org, parts)
        if credentials is not None:
            return reference, credentials
        wanted = secret or await self._of_hosts.find(caller.org, parts)
        if wanted is None:
            return reference, None
        return reference, await self._secrets.credentials_for(caller.org, wanted, parts.registry)


def newest(tags: list[str], pattern: str, variable: str, most: str) -> str | None:
    """The version, as a tag has it in place of `variable`, that is the highest up to `most`.

    Versions have two or three numbers and are compared as such; `12.2` admits `12.2.1`.
    """
    before, _, after = pattern.partition(variable)
    shape = re.compile(rf"{re.escape(before)}(\d+\.\d+(?:\.\d+)?){re.escape(after)}")
    limit = _numbers(most)[:2]
    found = [match[1] for match in map(shape.fullmatch, tags) if match]
    fitting = [each for each in found if _numbers(each)[:2] <= limit]
    return max(fitting, key=_numbers, default=None)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
