"""Frees what crashes left leased: a GPU that nobody uses must not stay taken for ever."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta

from pipeline.adapters.store import EVERY_ORG, Store
from pipeline.core import records
from pipeline.core.leases import Leases
from pipeline.rules.leftovers import is_left_over
from schemas.container import Container
from schemas.node import Lease, Node

log = logging.getLogger(__name__)

BATCH = 500


class LeaseSweep:
    """`age_s`: how long a record must have stood still before its lease is called a leftover."""

    def __init__(self, store: Store, leases: Leases, *, age_s: float, clock: records.Clock) -> None:
        self._store = store
        self._leases = leases
        self._age = timedelta(seconds=age_s)
        self._clock = clock

    async def sweep(self) -> int:
        """Free all leftovers and say how many. Idempotent, safe in several workers at once."""
        nodes = await self._store.find(Node, org=EVERY_ORG, where={"leases": {"$ne": {}}}, sort=())
        held = [(node.uuid, lease) for node in nodes for lease in node.leases.values()]
        freed = 0
        for start in range(0, len(held), BATCH):
            freed += await self._free(held[start : start + BATCH])
        return freed

    async def _free(self, held: Sequence[tuple[str, Lease]]) -> int:
        before = self._clock() - self._age
        uuids = [lease.container for _, lease in held]
        found = await self._store.find(
            Container, org=EVERY_ORG, where={"_id": {"$in": uuids}}, sort=()
        )
        known = {record.uuid: record for record in found}
        freed = 0
        for node, lease in held:
            if is_left_over(lease, node, known.get(lease.container), before=before):
                log.warning("freeing what %s left leased on node %s", lease.container, node)
                freed += await self._leases.release(lease.container, lease.fence, node=node)
        return freed
