"""How an engine opens the platform's registry: with a key of one launch, good while it pulls, or of
one build, good while it builds.

The agent makes the key and writes its hash into the record, which nobody but our own processes can
do. The engine shows the key to our token service as often as it needs a token:
however long a pull takes, and no longer.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from pipeline.adapters.store.store import EVERY_ORG, Store
from pipeline.errors import InvalidReference, Unauthenticated
from pipeline.images.ownership import OwnRegistry
from pipeline.ports import Credentials
from schemas.container import Container
from schemas.image import Build
from schemas.states import BuildStatus, ContainerStatus


class Pulls:
    """Tokens for engines, each for what one record says and a short while."""

    def __init__(self, store: Store, own: OwnRegistry) -> None:
        self._store = store
        self._own = own

    async def token(self, uuid: str, key: str) -> str:
        """For the repository that the container's image lies in, or for those that a build starts
        from, to be read, whatever was asked.

        Raises Unauthenticated.
        """
        where = {"_id": uuid, "status": ContainerStatus.PULLING}
        asker = await self._store.find_one(Container, org=EVERY_ORG, where=where) or (
            await self._store.find_one(
                Build, org=EVERY_ORG, where={"_id": uuid, "status": BuildStatus.BUILDING}
            )
        )
        if asker is None or not hmac.compare_digest(asker.pull_key or "", _hash(key)):
            raise Unauthenticated("Only engines of the platform may pull, for a launch or a build.")
        pulled = asker.bases if isinstance(asker, Build) else [asker.pull]
        try:
            return await self._own.pull_token(asker.org, *pulled)
        except InvalidReference as error:
            raise Unauthenticated(error.message) from error


def login(registry: str, asker: Container | Build) -> tuple[str, Credentials]:
    """The hash to be kept in the record, and what the engine is told."""
    key = secrets.token_urlsafe(32)
    return _hash(key), Credentials(registry, asker.uuid, key)


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
