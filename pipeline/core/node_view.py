"""All nodes as they were a moment ago: good enough to plan with, since the lease decides."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

from pipeline.adapters.store import EVERY_ORG, Store
from pipeline.core import records
from pipeline.rules import placement
from schemas.node import Lease, Node
from schemas.states import NodeStatus

LIVING = {"status": {"$ne": NodeStatus.DELETED.value}}


class NodeView:
    """Many placements in a short time share one reading, which is the costly part of them."""

    def __init__(self, store: Store, *, age_s: float, clock: records.Clock) -> None:
        self._store = store
        self._age = timedelta(seconds=age_s)
        self._clock = clock
        self._nodes: dict[str, Node] = {}
        self._read_at: datetime | None = None
        self._reading = asyncio.Lock()

    async def nodes(self) -> Sequence[Node]:
        """Not older than the age, or newer than that where somebody looked again."""
        async with self._reading:
            if not self._is_recent():
                await self._read()
        return list(self._nodes.values())

    async def read_since(self, moment: datetime) -> bool:
        """True when everything had to be read again, because nobody has since this moment."""
        async with self._reading:
            if self._read_at is not None and self._read_at >= moment:
                return False
            await self._read()
            return True

    async def look_again(self, uuid: str) -> None:
        """At one node, whose state turned out to be another."""
        found = await self._store.find_one(Node, org=EVERY_ORG, where={"_id": uuid, **LIVING})
        if found is None:
            self._nodes.pop(uuid, None)
        else:
            self._nodes[uuid] = found

    def leased(self, uuid: str, lease: Lease) -> None:
        """Somebody here has just leased this."""
        if (node := self._nodes.get(uuid)) is not None:
            self._nodes[uuid] = placement.with_lease(node, lease)

    def _is_recent(self) -> bool:
        return self._read_at is not None and (
            timedelta(0) <= self._clock() - self._read_at < self._age
        )

    async def _read(self) -> None:
        at = self._clock()
        found = await self._store.find(Node, org=EVERY_ORG, where=LIVING, sort=())
        self._nodes = {node.uuid: node for node in found}
        self._read_at = at
