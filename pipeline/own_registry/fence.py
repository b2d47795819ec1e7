"""Keeps pushes into the platform's own registry apart from what takes content out of it.

A registry that collects unreferenced blobs takes those of a push under way for such. So pushes hold
leases, a collector waits until there are none and lets none begin meanwhile. Removing a manifest
excludes only the push that is about to write the same one. All of it is one document and each step
one atomic update; leases of dead processes run out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Final

from pipeline import concurrency
from pipeline.adapters.store.store import EVERY_ORG, Store
from pipeline.errors import (
    AlreadyExists,
    Conflict,
    RegistryUnavailable,
    StoreUnavailable,
    YardError,
)
from pipeline.records.idempotency import new_id
from pipeline.records.kernel import Clock, now
from schemas.registries.registry import Lease, RegistrySpace

log = logging.getLogger(__name__)

LEASE: Final = timedelta(seconds=30)
RENEW_S: Final = 8.0
LOOK_S: Final = 0.2
PUSH_WAIT_S: Final = 30.0
"""How long a push waits for a collection."""
CLAIM_WAIT_S: Final = 10.0
DRAIN_S: Final = 10.0
"""How long a collection waits for the pushes that are under way; new ones wait with it."""
SPACE: Final = "own"
"""The one record's uuid."""
NOTHING: Final[Mapping[str, Any]] = {}


class Push:
    """The lease of one archive on its way in."""

    def __init__(self, fence: RegistryFence, id: str) -> None:
        self.id = id
        self._fence = fence

    async def claim(self, repository: str, digest: str) -> None:
        """This manifest is about to be written: nobody removes it until the push has ended.

        Waits for a removal under way. Raises RegistryUnavailable when the lease has run out, and
        then nothing may be written: what was pushed may be gone.
        """
        manifest = f"{repository}@{digest}"

        async def claimed() -> bool:
            at = self._fence.clock()
            guard = {
                "pushes": _alive(at, id=self.id),
                "removals": {"$not": _alive(at, manifest=manifest)},
            }
            return await self._fence.update(guard, {"$set": {"pushes.$.manifest": manifest}})

        if not await _within(CLAIM_WAIT_S, claimed):
            raise _unavailable("The push was interrupted: send the archive again.")


class RegistryFence:
    """Safe to share. Raises StoreUnavailable."""

    def __init__(self, store: Store, org: str, clock: Clock = now) -> None:
        """`org` is the installation's own."""
        self.clock = clock
        self._store = store
        self._org = org

    @asynccontextmanager
    async def pushing(self) -> AsyncIterator[Push]:
        """Around a push, from its first blob until its image is kept or withdrawn.

        Waits for a collection. Raises RegistryUnavailable when that takes too long.
        """
        push = Push(self, new_id())

        async def entered() -> bool:
            at = self.clock()
            guard = {"$or": [{"collector": None}, {"collector.until": {"$lte": at}}]}
            lease = Lease(id=push.id, until=at + LEASE)
            return await self.update(guard, {"$push": {"pushes": lease.model_dump()}})

        if not await _within(PUSH_WAIT_S, entered):
            raise _unavailable("The registry's space is being collected: try again in a minute.")
        async with self._leased(
            lambda at: {"pushes": _alive(at, id=push.id)},
            "pushes.$.until",
            {"$pull": {"pushes": {"id": push.id}}},
        ):
            yield push

    @asynccontextmanager
    async def removing(self, repository: str, digest: str) -> AsyncIterator[bool]:
        """False while a push is about to write this manifest, or another process removes it.

        Raises TimeoutError in the block when it takes as long as the lease.
        """
        at, manifest = self.clock(), f"{repository}@{digest}"
        lease = Lease(id=new_id(), until=at + LEASE, manifest=manifest)
        guard = {name: {"$not": _alive(at, manifest=manifest)} for name in ("pushes", "removals")}
        if not await self.update(guard, {"$push": {"removals": lease.model_dump()}}):
            yield False
            return
        try:
            async with asyncio.timeout(LEASE.total_seconds() / 2):
                yield True
        finally:
            await self._release({"$pull": {"removals": {"id": lease.id}}})

    @asynccontextmanager
    async def collecting(self) -> AsyncIterator[None]:
        """No push is under way in the block, and none begins.

        Raises Conflict when pushes do not end soon, or somebody else collects.
        """
        at, id = self.clock(), new_id()
        await self.update({}, {"$pull": {"pushes": {"until": {"$lte": at}}}})
        await self.update({}, {"$pull": {"removals": {"until": {"$lte": at}}}})
        free = {"$or": [{"collector": None}, {"collector.until": {"$lte": at}}]}
        lease = Lease(id=id, until=at + LEASE)
        if not await self.update(free, {"$set": {"collector": lease.model_dump()}}):
            raise Conflict("The registry's space is being collected already.")
        async with self._leased(
            lambda at: {"collector.id": id, "collector.until": {"$gt": at}},
            "collector.until",
            {"$set": {"collector": None}},
            {"collector.id": id},
        ):

            async def drained() -> bool:
                at = self.clock()
                return not any(push.until > at for push in (await self.space()).pushes)

            if not await _within(DRAIN_S, drained):
                raise Conflict("Images are being pushed: the registry's space is collected later.")
            yield

    async def space(self) -> RegistrySpace:
        """As it was noted last."""
        found = await self._store.find_one(RegistrySpace, org=EVERY_ORG, where={"_id": SPACE})
        at = self.clock()
        return found or RegistrySpace(uuid=SPACE, org=self._org, created_at=at, updated_at=at)

    async def note(self, **values: Any) -> None:
        """Facts of a look or a collection, or the wish for one."""
        await self.update({}, {"$set": values})

    async def update(self, guard: Mapping[str, Any], update: Mapping[str, Any]) -> bool:
        """False when the guard fails. Makes the record at first use."""
        for _ in range(2):
            changed = await self._store.update(
                RegistrySpace, SPACE, org=EVERY_ORG, guard=guard, update=update
            )
            if changed is not None:
                return True
            if await self._store.count(RegistrySpace, org=EVERY_ORG, where={"_id": SPACE}):
                return False
            try:
                await self._store.insert(await self.space())
            except AlreadyExists:
                continue
        return False

    @asynccontextmanager
    async def _leased(
        self,
        mine: Callable[[datetime], Mapping[str, Any]],
        until: str,
        release: Mapping[str, Any],
        guard: Mapping[str, Any] = NOTHING,
    ) -> AsyncIterator[None]:
        """Renews a lease. One that has run out is not taken up again: others may have acted."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(RENEW_S)
                at = self.clock()
                try:
                    await self.update(mine(at), {"$set": {until: at + LEASE}})
                except YardError as error:
                    log.warning("a lease of the registry is not renewed: %s", error.message)

        renewing = asyncio.create_task(renew(), name="lease of the registry")
        try:
            yield
        finally:
            await concurrency.cancel_and_wait(renewing)
            await concurrency.run_to_completion(self._release(release, guard))

    async def _release(
        self, release: Mapping[str, Any], guard: Mapping[str, Any] = NOTHING
    ) -> None:
        try:
            await self.update(guard, release)
        except StoreUnavailable:
            log.warning("a lease of the registry could not be released: it runs out")


def _alive(at: datetime, **what: str) -> dict[str, Any]:
    return {"$elemMatch": {"until": {"$gt": at}, **what}}


def _unavailable(message: str) -> RegistryUnavailable:
    return RegistryUnavailable(message, kind="other", retry_after_s=60)


async def _within(wait_s: float, done: Callable[[], Awaitable[bool]]) -> bool:
    loop = asyncio.get_running_loop()
    end = loop.time() + wait_s
    while not await done():
        if loop.time() >= end:
            return False
        await asyncio.sleep(LOOK_S)
    return True
