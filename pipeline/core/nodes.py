"""Nodes: who is there, and what to do about the ones that are gone."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from pipeline.adapters.store import EVERY_ORG
from pipeline.core import records
from pipeline.core.containers import announce
from pipeline.core.leases import Leases
from pipeline.core.paging import Page, page
from pipeline.core.replacing import place_anew
from pipeline.errors import LostRace, YardError
from pipeline.rules.silence import Silence
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
BATCH = 500
"""Containers of lost nodes that one sweep decides about; the next one goes on."""
EXPECTED = {"status": {"$in": [NodeStatus.READY.value, NodeStatus.NOT_READY.value]}}
GONE = {"status": {"$in": [NodeStatus.LOST.value, NodeStatus.DELETED.value]}}
ON_NODE = [
    Status.PLACED.value,
    Status.PULLING.value,
    Status.CREATED.value,
    Status.RUNNING.value,
    Status.UNHEALTHY.value,
    Status.RESTARTING.value,
]
ENDED = [Status.STOPPED.value, Status.FAILED.value]
UNDECIDED: dict[str, Any] = {
    "$or": [
        {"status": {"$in": ON_NODE}},
        {"status": Status.LOST.value, "desired": {"$ne": Desired.RUNNING.value}},
        {"status": Status.LOST.value, "spec.on_node_loss": OnNodeLoss.REPLACE.value},
        {"status": {"$in": ENDED}, "desired": Desired.DELETED.value},
    ]
}
"""What is still to be decided about a container whose node is gone."""


class Nodes:
    """Nodes serve the whole installation: every organisation sees them, none owns them."""

    def __init__(
        self,
        store: Store,
        outbox: Outbox,
        leases: Leases,
        *,
        grace_s: float,
        sweep_interval_s: float,
        clock: records.Clock,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._leases = leases
        blind_s = max(grace_s / 2, 3 * sweep_interval_s)
        self._silence = Silence(grace_s=grace_s, blind_s=blind_s)
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
        """Declare silent nodes LOST and decide about their containers. Safe to repeat.

        Call it every few seconds: a node is silent when this process, looking again and again,
        has seen no new heartbeat for the grace period. So neither a clock that is wrong nor a
        store that was away makes a node look silent.
        """
        try:
            nodes = await self._store.find(Node, org=EVERY_ORG, where=EXPECTED, sort=[])
            for node in self._silence.silent(nodes, self._clock()):
                await self._lose(node)
            await self._bereave()
        except YardError:
            self._silence.forget()
            raise
        self._silence.looked(self._clock())

    async def _lose(self, node: Node) -> None:
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
                guard={"last_heartbeat": node.last_heartbeat},
            )
        except LostRace:
            log.info("node %s beat again before it was declared lost", node.name)
            return
        await self._outbox.send(node)

    async def _bereave(self) -> None:
        gone = await self._store.find(Node, org=EVERY_ORG, where=GONE, sort=[])
        names = {node.uuid: node.name for node in gone}
        where = {"node": {"$in": list(names)}} | UNDECIDED
        for container in await self._store.find(
            Container, org=EVERY_ORG, where=where, sort=[], limit=BATCH
        ):
            try:
                await self._decide(container, f"node {names[container.node or '']} is lost")
            except LostRace:
                log.info("container %s changed while its node was lost", container.uuid)

    async def _decide(self, container: Container, why: str) -> None:
        """Writes first and frees leases then: should the node come back in between, it wins the
        race for the record, and what it runs is still leased."""
        if container.desired is Desired.DELETED:
            await self._end(container, Status.DELETED, f"deleted; {why}")
        elif container.desired is Desired.STOPPED:
            await self._end(container, Status.STOPPED, f"stopped as requested; {why}")
        else:
            if container.status is not Status.LOST:
                container = await self._move(container, Status.LOST, why)
            if container.spec.on_node_loss is OnNodeLoss.REPLACE:
                await self._replace(container, why)

    async def _end(self, container: Container, status: Status, reason: str) -> None:
        await self._move(container, status, reason)
        await self._leases.release(container.uuid, container.fence, node=container.node)

    async def _replace(self, container: Container, why: str) -> None:
        at, reason = self._clock(), f"replaced: {why}"
        await place_anew(self._store, self._outbox, container, at=at, actor=SWEEPER, reason=reason)
        await self._leases.release(container.uuid, container.fence, node=container.node)

    async def _move(self, container: Container, status: Status, reason: str) -> Container:
        at = self._clock()
        message = announce(
            container,
            status.lower(),
            at=at,
            actor=SWEEPER,
            revision=container.revision + 1,
            status=status,
            reason=reason,
        )
        container = await self._store.change(
            container, {}, at=at, status=status, reason=reason, messages=[message]
        )
        await self._outbox.send(container)
        return container
