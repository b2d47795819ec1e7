"""What images that came as archives leave in the platform's registry when they are deleted."""

from __future__ import annotations

import logging
from typing import Any, Final

from pipeline.adapters.registry.push import PushSession, RegistryPush
from pipeline.adapters.store.store import EVERY_ORG
from pipeline.oci import repositories
from pipeline.own_registry.fence import RegistryFence
from pipeline.records.kernel import Records, living
from pipeline.records.sweeping import one_by_one
from schemas.image import Image, ImageSource
from schemas.states import ImageStatus

log = logging.getLogger(__name__)

AT_ONCE: Final = 100
_PUSHED: Final = [ImageSource.ARCHIVE.value, ImageSource.UPLOAD.value]


class ImageRemoval:
    """Takes manifests and tags of deleted images out of the platform's registry.

    What lies there of other origin is not touched: somebody put it there himself.
    """

    def __init__(self, records: Records, registry: RegistryPush, fence: RegistryFence) -> None:
        self._records = records
        self._store = records.store
        self._registry = registry
        self._fence = fence

    async def sweep(self) -> None:
        """Again until the registry has confirmed it. Safe in several workers at once."""
        where = {
            "status": ImageStatus.DELETED.value,
            "unregistered_at": None,
            "source": {"$in": _PUSHED},
            "digest": {"$gt": ""},
        }
        found = await self._store.find(Image, org=EVERY_ORG, where=where, sort=(), limit=AT_ONCE)
        await one_by_one(found, self.remove)

    async def remove(self, image: Image) -> None:
        """Of a deleted image. What another one needs stays, and goes with that one. Idempotent.

        Raises the RegistryError family, StoreUnavailable, TimeoutError.
        """
        repository, digest = image.parts.repository, image.digest
        assert digest is not None, "nothing of it came into the registry"
        async with self._fence.removing(repository, digest) as is_ours:
            if not is_ours or await self._may_be_meant(image):
                return
            where = {"digest": digest, "parts.repository": repository}
            users = await self._store.find(
                Image, org=EVERY_ORG, where=living(ImageStatus.DELETED, **where)
            )
            async with self._registry.open(repositories.pool(image.org)) as pushing:
                if not users:
                    await pushing.delete_manifest(repository, digest)
                elif image.parts.tag not in {user.parts.tag for user in users}:
                    await _untag(pushing, image)
            done = {"$set": {"unregistered_at": self._records.clock()}}
            await self._store.update(Image, image.uuid, org=image.org, guard={}, update=done)

    async def _may_be_meant(self, image: Image) -> bool:
        """By a reference that is being looked at, and has no digest yet."""
        where: dict[str, Any] = {
            "parts.repository": image.parts.repository,
            "source": ImageSource.REFERENCE.value,
            "status": {"$in": [ImageStatus.PENDING.value, ImageStatus.VALIDATING.value]},
        }
        return await self._store.count(Image, org=EVERY_ORG, where=where) > 0


async def _untag(pushing: PushSession, image: Image) -> None:
    """Unless the tag names something else by now."""
    repository, tag = image.parts.repository, image.parts.tag
    if tag is None:
        return
    if await pushing.digest_of(repository, tag) == image.digest:
        await pushing.delete_tag(repository, tag)
