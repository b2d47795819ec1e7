"""Decides for a batch who gets what, by what is known to be free, and what is kept for whom."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from pipeline.errors import CannotPlace, NoCapacity
from pipeline.placement import planning, reasons, turns
from pipeline.placement.batches import Pending
from pipeline.placement.capacity import Capacity
from pipeline.placement.eligibility import ResourceRequest
from schemas.node import Lease

NO_ROOM: Final = NoCapacity("There is no room for it yet.")
"""Of those of whom nobody asks at the moment: their records say more."""
KEPT_SHARE: Final = 4
"""Of so many nodes one may be kept for those whose patience is at an end, and at least one."""


class Planner:
    """Does no I/O. What it gives counts as taken in `capacity` from then on."""

    def __init__(self, capacity: Capacity, *, grace_s: float, patience_s: float) -> None:
        self._capacity = capacity
        self._grace_s = grace_s
        self._patience_s = patience_s

    def plan(self, pending: Sequence[Pending], attempt: str, *, now: datetime) -> None:
        """Each gets a choice and its lease, or a refusal, in the order of `turns`.

        One for whom nothing is free and whose patience is at an end has the node kept that has
        most of what it needs: who comes behind it in this order is placed elsewhere. With nothing
        let in there, what is free only grows, until it is enough.
        """
        by_uuid = {each.container.uuid: each for each in pending}
        ordered = turns.in_order(
            [each.turn for each in pending],
            self._capacity.share,
            now=now,
            patience_s=self._patience_s,
        )
        heads = turns.heads(ordered, now=now, patience_s=self._patience_s)
        kept: set[str] = set()
        full: set[tuple[object, ...]] = set()
        told: dict[tuple[object, ...], CannotPlace] = {}
        for turn in ordered:
            each = by_uuid[turn.uuid]
            assert each.wants is not None, "who has no refusal has a request"
            key = planning.signature(each.wants)
            if key not in full and self._give(each, attempt, kept, now):
                continue
            full.add(key)
            if each.asks and key not in told:
                told[key] = self._refusal(each.wants, kept, now)
            each.refusal = told[key] if each.asks else NO_ROOM
            if turn.uuid in heads:
                self._keep(each.wants, kept, now)

    def _give(self, each: Pending, attempt: str, kept: set[str], now: datetime) -> bool:
        assert each.wants is not None
        choice = self._capacity.choose(each.wants, now=now, grace_s=self._grace_s, closed=kept)
        if choice is None:
            return False
        each.choice = choice
        each.lease = Lease(
            container=each.container.uuid,
            fence=each.container.fence + 1,
            gpus=list(choice.gpus),
            memory_bytes=each.wants.memory_bytes,
            cpus=each.wants.cpus,
            host_ports=list(each.wants.host_ports),
            org=each.container.org,
            attempt=attempt,
        )
        self._capacity.lease(choice.node.uuid, each.lease)
        return True

    def _refusal(self, wants: ResourceRequest, kept: set[str], now: datetime) -> CannotPlace:
        groups = self._capacity.groups()
        return reasons.refusal(wants, groups, now=now, grace_s=self._grace_s, kept=kept)

    def _keep(self, wants: ResourceRequest, kept: set[str], now: datetime) -> None:
        if len(kept) < max(len(self._capacity) // KEPT_SHARE, 1):
            node = self._capacity.nearest(wants, now=now, grace_s=self._grace_s, closed=kept)
            if node is not None:
                kept.add(node.uuid)
