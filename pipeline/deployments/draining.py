"""Empties nodes that are drained: replicas of deployments move, all else is waited for."""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import datetime
from typing import Final

from pipeline.adapters.store.indexes import SOME_TIME
from pipeline.adapters.store.store import EVERY_ORG
from pipeline.deployments.reconciler import DeploymentReconciler
from pipeline.errors import NotFound
from pipeline.records.kernel import Change, Records
from pipeline.records.messages import event
from pipeline.records.sweeping import one_by_one
from schemas.container import PURPOSE_LABEL, Container
from schemas.node import Node
from schemas.states import ContainerStatus

log = logging.getLogger(__name__)

DRAINER: Final = "worker:draining"
REASONS: Final = 3
"""Examples of why replicas wait."""


class DrainingNodes:
    """Nodes serve the whole installation, so this looks at replicas of every organisation."""

    def __init__(self, records: Records, reconciler: DeploymentReconciler) -> None:
        self._records = records
        self._store = records.store
        self._reconciler = reconciler

    async def sweep(self) -> None:
        """Have replicas leave drained nodes, and say what is left there. Safe to repeat.

        Each step of a move is an event of a container, at which its deployment is looked at; this
        begins it, and goes on should one have been lost.
        """
        where = {"drain.since": {"$gt": SOME_TIME}}
        found = await self._store.find(Node, org=EVERY_ORG, where=where, sort=())
        await one_by_one(found, self._drain)

    async def _drain(self, node: Node) -> None:
        there = await self._on(node)
        for org, deployment in sorted({(c.org, c.deployment) for c in there if c.deployment}):
            await self._reconciler.try_to_reconcile(org, deployment)
        try:
            await self._records.amend(node, self._look, actor=DRAINER)
        except NotFound:
            log.info("node %s is gone while it was drained", node.name)

    async def _look(self, node: Node, at: datetime) -> Change | None:
        if node.drain is None:
            return None
        there = await self._on(node)
        waiting = await self._waiting({each.deployment for each in there if each.deployment})
        is_empty = not node.leases
        found = node.drain.model_copy(
            update={
                "left": len(node.leases),
                "said": what_is_left(there, waiting),
                "drained_at": (node.drain.drained_at or at) if is_empty else None,
            }
        )
        if found == node.drain:
            return None
        is_news = is_empty and node.drain.drained_at is None
        return Change({"drain": found.model_dump()}, send=[event("drained")] if is_news else [])

    async def _on(self, node: Node) -> list[Container]:
        """What holds something of it: all that is placed there and not over."""
        where = {"_id": {"$in": sorted(node.leases)}}
        return await self._store.find(Container, org=EVERY_ORG, where=where, sort=())

    async def _waiting(self, deployments: Collection[str]) -> list[Container]:
        """Replicas that find no room elsewhere."""
        where = {
            "deployment": {"$gt": "", "$in": sorted(deployments)},
            "status": ContainerStatus.REQUESTED.value,
        }
        found = await self._store.find(Container, org=EVERY_ORG, where=where, sort=())
        return [each for each in found if each.refusals]


def what_is_left(there: Collection[Container], waiting: Collection[Container]) -> str:
    """`there`: on the node. `waiting`: replicas that were to take the place of some of them."""
    replicas = sum(each.deployment is not None for each in there)
    alone = [each for each in there if each.deployment is None]
    jobs = sum(PURPOSE_LABEL in each.spec.labels for each in alone)
    others = len(there) - replicas - jobs
    parts = []
    if replicas:
        parts.append(f"{_counted(replicas, 'replica')} to move{_why(waiting)}")
    if jobs:
        parts.append(f"{_counted(jobs, 'container')} of models, which end by themselves")
    if others:
        parts.append(f"{_counted(others, 'container')} that only the owners stop")
    return "; ".join(parts) or "nothing is left"


def _why(waiting: Collection[Container]) -> str:
    if not waiting:
        return ""
    reasons = sorted({each.reason or "no node has room" for each in waiting})[:REASONS]
    verb = "waits" if len(waiting) == 1 else "wait"
    return f", {len(waiting)} {verb} ({'; '.join(reasons)})"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
