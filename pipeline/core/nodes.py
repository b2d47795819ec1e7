"""Nodes: who is there, and what to do about the ones that are gone."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pipeline.adapters.store import EVERY_ORG
from pipeline.core import records
from pipeline.core.containers import announce
from pipeline.core.leases import Leases
from pipeline.core.paging import Page, page
from pipeline.errors import LostRace
from schemas.access import Principal
from schemas.container import Container, Desired, OnNodeLoss
from schemas.node import Node
from schemas.states import ContainerStatus as Status
from schemas.states import NodeStatus

if TYPE_CHECKING:
    from pipeline.adapters.store import Store
    from pipeline.core.outbox import Outbox

log = logging.getLogger(__name__)

SWEEPER = "worker:lost-nodes"
ON_NODE = [
    Status.PLACED.value,
    Status.PULLING.value,
    Status.CREATED.value,
    Status.RUNNING.value,
    Status.UNHEALTHY.value,
    Status.RESTARTING.value,
]


class Nodes:
    """Nodes serve the whole installation: every organisation sees them, none owns them."""

    def __init__(
        self,
        store: Store,
        outbox: Outbox,
        leases: Leases,
        *,
        grace_s: float,
        clock: records.Clock,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._leases = leases
        self._grace_s = grace_s
        self._clock = clock

    async def list(
        self,
        caller: Principal,
        *,
        limit: int = 50,
        cursor: str | None = None,
        status: str | None = None,
        name: str | None = None,
    ) -> Page[Node]:
        where: dict[str, Any] = {"status": status or {"$ne": NodeStatus.DELETED.value}}
        if name is not None:
            where["name"] = name
        return await page(self._store, Node, org=EVERY_ORG, where=where, limit=limit, cursor=cursor)

    async def get(self, caller: Principal, uuid: str) -> Node:
        """Raises NotFound."""
        return await self._store.get(Node, uuid, org=EVERY_ORG)

    async def sweep_lost(self) -> None:
        """Declare silent nodes LOST and decide about their containers. Safe to repeat."""
        cutoff = self._clock() - timedelta(seconds=self._grace_s)
        silent = {
            "status": {"$in": [NodeStatus.READY.value, NodeStatus.NOT_READY.value]},
            "last_heartbeat": {"$lt": cutoff},
        }
        for node in await self._store.find(Node, org=EVERY_ORG, where=silent, sort=[]):
            await self._lose(node, {"last_heartbeat": {"$lt": cutoff}})
        gone = {"status": NodeStatus.LOST.value}
        for node in await self._store.find(Node, org=EVERY_ORG, where=gone, sort=[]):
            await self._bereave(node)

    async def _lose(self, node: Node, still_silent: dict[str, Any]) -> None:
        at = self._clock()
        reason = f"no heartbeat since {node.last_heartbeat.isoformat()}"
        message = records.event(
            node,
            "lost",
            at=at,
            actor=SWEEPER,
            revision=node.revision + 1,
            name=node.name,
            status=NodeStatus.LOST,
            reason=reason,
        )
        try:
            node = await self._store.change(
                node,
                {},
                at=at,
                status=NodeStatus.LOST,
                reason=reason,
                messages=[message],
                guard=still_silent,
            )
        except LostRace:
            log.info("node %s beat again before it was declared lost", node.name)
            return
        await self._outbox.send(node)

    async def _bereave(self, node: Node) -> None:
        where = {"node": node.uuid, "status": {"$in": [*ON_NODE, Status.LOST.value]}}
        for container in await self._store.find(
            Container, org=EVERY_ORG, where=where, sort=[], limit=500
        ):
            try:
                await self._decide(node, container)
            except LostRace:
                log.info("container %s changed while its node was lost", container.uuid)

    async def _decide(self, node: Node, container: Container) -> None:
        if container.desired is Desired.DELETED:
            await self._move(container, Status.DELETED, f"deleted; its node {node.name} is lost")
            await self._leases.release(container.uuid, container.fence)
        elif container.status is not Status.LOST:
            container = await self._move(container, Status.LOST, f"node {node.name} is lost")
        replace = container.spec.on_node_loss is OnNodeLoss.REPLACE
        if container.status is Status.LOST and replace and container.desired is Desired.RUNNING:
            await self._leases.release(container.uuid, container.fence)
            await self._move(
                container, Status.REQUESTED, f"replaced: node {node.name} is lost", place=True
            )

    async def _move(
        self, container: Container, status: Status, reason: str, *, place: bool = False
    ) -> Container:
        at = self._clock()
        revision = container.revision + 1
        messages = [
            announce(
                container,
                status.lower(),
                at=at,
                actor=SWEEPER,
                revision=revision,
                status=status,
                reason=reason,
            )
        ]
        if place:
            messages.append(
                records.command(container, "place", at=at, actor=SWEEPER, revision=revision)
            )
        values: dict[str, Any] = (
            {"node": None, "engine_id": None, "ports": [], "gpus": []} if place else {}
        )
        container = await self._store.change(
            container, values, at=at, status=status, reason=reason, messages=messages
        )
        await self._outbox.send(container)
        return container
