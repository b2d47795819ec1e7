"""What one process knows of all nodes: an index that follows the store's changes."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Iterable
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Final

from pipeline import concurrency
from pipeline.adapters.store import bulk
from pipeline.adapters.store.documents import ChangedFields, Place
from pipeline.adapters.store.store import EVERY_ORG, Store
from pipeline.placement.capacity import Capacity
from pipeline.records.idempotency import new_id
from pipeline.records.kernel import Clock
from schemas.node import Node
from schemas.states import NodeStatus

log = logging.getLogger(__name__)

AGE_S: Final = 0.5
"""Of what is known where nobody follows changes, where nodes are few."""
READING_SHARE: Final = 10
"""Where they are many, they are read for no more than the tenth part of the time."""
BLIND_SHARE: Final = 0.5
"""Of the grace: heartbeats are not followed, and known for no longer than this."""
AT_ONCE: Final = 250
LINGER_S: Final = 0.02
"""How long changed nodes wait for each other, to be read together."""
HEARTBEAT: Final = "last_heartbeat"
LIVING: Final = {"status": {"$in": [s.value for s in NodeStatus if s is not NodeStatus.DELETED]}}


class NodeView:
    """A hint: what it says is free may be taken by now. Safe within one event loop.

    While `follow` runs, a change costs one read of its node, and a heartbeat nothing; where it does
    not, all nodes are read when what is known is older than `AGE_S`.
    """

    def __init__(self, store: Store, *, grace_s: float, clock: Clock) -> None:
        self.capacity = Capacity(salt=new_id())
        self._store = store
        self._clock = clock
        self._blind = timedelta(seconds=grace_s * BLIND_SHARE)
        self._place = Place()
        self.is_followed = False
        self._changed: list[ChangedFields] = []
        self._stirred = asyncio.Event()
        self._read_at: datetime | None = None
        self._checked_at: datetime | None = None
        self._rest = timedelta(0)
        self._reading = asyncio.Lock()

    async def refresh(self) -> None:
        """Returns when what is known is recent enough to plan with. Raises StoreUnavailable."""
        async with self._reading:
            if not self.is_followed:
                if not self._is_recent(self._read_at, max(timedelta(seconds=AGE_S), self._rest)):
                    await self._read()
            elif not self._is_recent(self._checked_at, self._blind):
                await self._check()

    async def read_since(self, moment: datetime) -> bool:
        """False when nothing had to be read again, since somebody has after this moment."""
        async with self._reading:
            looked_at = self._checked_at if self.is_followed else self._read_at
            if looked_at is not None and looked_at >= moment:
                return False
            if not self.is_followed and self._is_recent(self._read_at, self._rest):
                return False
            await (self._check() if self.is_followed else self._read())
            return True

    async def look_again(self, uuids: Iterable[str]) -> None:
        """At nodes whose state turned out to be another."""
        wanted = sorted(set(uuids))
        for start in range(0, len(wanted), AT_ONCE):
            await self._read_some(wanted[start : start + AT_ONCE])

    async def check(self) -> None:
        """Compare what is known with the store, heartbeats too, and read what differs.

        Call it every few seconds. Raises StoreUnavailable.
        """
        if self.is_followed:
            async with self._reading:
                await self._check()

    async def follow(self, noticed: Callable[[ChangedFields], None]) -> None:
        """Follow the changes of nodes until cancelled; `noticed` hears of each when
        it is known here.

        Raises StoreUnavailable when they are cut. Called again it goes on where it was, or reads
        all nodes when the store does not remember what changed since.
        """
        await concurrency.gather_or_cancel(self._watch(noticed), self._keep_reading(noticed))

    async def _watch(self, noticed: Callable[[ChangedFields], None]) -> None:
        try:
            changes = self._store.changes(Node, but=HEARTBEAT, place=self._place)
            async with aclosing(changes):
                async for changed in changes:
                    if changed.uuid:
                        self._changed.append(changed)
                        self._stirred.set()
                    else:
                        await self._begin()
                        noticed(changed)
        finally:
            self.is_followed = False

    async def _begin(self) -> None:
        async with self._reading:
            if not self._place.is_resumed:
                await self._read()
            self.is_followed = True
            await self._check()
        # So much stays for so long that looking at it for garbage would hold up everything else.
        # Called again, what was held before and is no more is let go of first.
        gc.unfreeze()
        gc.collect()
        gc.freeze()

    async def _keep_reading(self, noticed: Callable[[ChangedFields], None]) -> None:
        while True:
            await self._stirred.wait()
            await asyncio.sleep(LINGER_S)
            self._stirred.clear()
            changed, self._changed = self._changed, []
            try:
                await self.look_again(each.uuid for each in changed if each.uuid)
            except BaseException:
                self._changed = changed + self._changed
                self._stirred.set()
                raise
            for each in changed:
                noticed(each)

    def _is_recent(self, at: datetime | None, age: timedelta) -> bool:
        return at is not None and timedelta(0) <= self._clock() - at < age

    async def _read(self) -> None:
        """All of them, in parts, so that other work goes on meanwhile."""
        at, known, last = self._clock(), self._known(), ""
        while True:
            where = {"_id": {"$gt": last}, **LIVING}
            part = await self._store.find(
                Node, org=EVERY_ORG, where=where, sort=[("_id", 1)], limit=AT_ONCE
            )
            for node in part:
                known.discard(node.uuid)
                self.capacity.put(node)
            if len(part) < AT_ONCE:
                break
            last = part[-1].uuid
        self._forget(known)
        self._read_at = self._checked_at = at
        is_long = len(self.capacity) > AT_ONCE
        self._rest = (self._clock() - at) * READING_SHARE if is_long else timedelta(0)

    async def _check(self) -> None:
        at, differing, gone = self._clock(), [], self._known()
        fields = ("last_heartbeat", "status", "cordoned", "held")
        for told in await bulk.read_fields(self._store, Node, fields, org=EVERY_ORG, where=LIVING):
            uuid = told["_id"]
            gone.discard(uuid)
            known = self.capacity.get(uuid)
            if known is None or (
                (known.status, known.cordoned, known.held)
                != (told["status"], told.get("cordoned", False), told["held"])
            ):
                differing.append(uuid)
            else:
                self.capacity.beat(uuid, told["last_heartbeat"])
        self._forget(gone)
        await self.look_again(differing)
        self._checked_at = at

    async def _read_some(self, uuids: list[str]) -> None:
        where = {"_id": {"$in": uuids}}
        found = {
            node.uuid: node
            for node in await self._store.find(Node, org=EVERY_ORG, where=where, sort=())
        }
        for uuid in uuids:
            if uuid in found:
                self.capacity.put(found[uuid])
            else:
                self.capacity.drop(uuid)

    def _known(self) -> set[str]:
        return {node.uuid for node in self.capacity.nodes}

    def _forget(self, uuids: Iterable[str]) -> None:
        for uuid in uuids:
            self.capacity.drop(uuid)
