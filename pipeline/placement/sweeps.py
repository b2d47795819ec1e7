"""What keeps placement true unasked: lost nodes, stale leases, containers that wait."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from pipeline import concurrency
from pipeline.adapters.store import bulk
from pipeline.adapters.store.documents import ChangedFields
from pipeline.adapters.store.store import EVERY_ORG
from pipeline.containers.changes import OFF_NODE, moved, place_again
from pipeline.containers.observation import OVER
from pipeline.errors import LostRace, YardError
from pipeline.nodes.leases import Leases
from pipeline.placement.line import FIRST, WAITING
from pipeline.placement.missed_heartbeats import MissedHeartbeats
from pipeline.placement.node_view import NodeView
from pipeline.records.kernel import Change, Records
from pipeline.records.messages import command, event
from schemas.container import Container, Desired, OnNodeLoss
from schemas.node import Lease, Node
from schemas.states import ContainerStatus as Status
from schemas.states import NodeStatus

log = logging.getLogger(__name__)

SWEEPER = "worker:lost-nodes"
BATCH = 500
"""Containers of lost nodes that one sweep decides about; the next one goes on."""
EXPECTED = {"status": {"$in": [NodeStatus.READY.value, NodeStatus.NOT_READY.value]}}
GONE = {"status": {"$in": [NodeStatus.LOST.value, NodeStatus.DELETED.value]}}
ON_NODE = [status.value for status in Status if status not in OVER | OFF_NODE]
ENDED = [Status.STOPPED.value, Status.FAILED.value]
UNDECIDED: tuple[dict[str, Any], ...] = (
    {"status": {"$in": ON_NODE}},
    {"status": Status.LOST.value, "desired": {"$ne": Desired.RUNNING.value}},
    {"status": Status.LOST.value, "spec.on_node_loss": OnNodeLoss.REPLACE.value},
    {"status": {"$in": ENDED}, "desired": Desired.DELETED.value},
)
"""What is still to be decided about a container whose node is gone."""
LEASES_AT_ONCE = 500
WAKER: Final = "worker:waiting"
REMINDED: Final = 20
"""Of the first that wait, should others be at work on some."""
AGAIN_S: Final = 0.25
"""Pause between two looks. An attempt that was under way when something was freed has ended by
then, and is made once more."""
_GIVEN: Final = frozenset({"leases", "held"})
_CAPACITY: Final = frozenset({"status", "cordoned", "labels", "inventory"})


class LostNodes:
    """Nodes serve the whole installation, so this sweeps over every organisation."""

    def __init__(
        self, records: Records, leases: Leases, *, grace_s: float, sweep_interval_s: float
    ) -> None:
        self._records = records
        self._leases = leases
        blind_s = max(grace_s / 2, 3 * sweep_interval_s)
        self._heartbeats = MissedHeartbeats(grace_s=grace_s, blind_s=blind_s)

    async def sweep(self) -> None:
        """Declare silent nodes LOST and decide about their containers. Safe to repeat.

        Call it every few seconds: a node is silent when this process, looking again and again,
        has seen no new heartbeat for the grace period. So neither a clock that is wrong nor a
        store that was away makes a node look silent.
        """
        store, clock = self._records.store, self._records.clock
        try:
            beaten = await bulk.read_fields(
                store, Node, ["last_heartbeat"], org=EVERY_ORG, where=EXPECTED
            )
            newest = {each["_id"]: each["last_heartbeat"] for each in beaten}
            for uuid in self._heartbeats.silent(newest, clock()):
                await self._declare_lost(uuid, newest[uuid])
            gone = await store.find(Node, org=EVERY_ORG, where=GONE, sort=[])
            await self._decide_containers({node.uuid: node for node in gone})
        except YardError:
            self._heartbeats.forget()
            raise
        self._heartbeats.looked(clock())

    async def _declare_lost(self, uuid: str, heartbeat: datetime) -> None:
        where = {"_id": uuid, "last_heartbeat": heartbeat, **EXPECTED}
        node = await self._records.store.find_one(Node, org=EVERY_ORG, where=where)
        if node is None:
            return
        change = Change(
            status=NodeStatus.LOST,
            reason=f"no heartbeat since {node.last_heartbeat.isoformat()}",
            send=[event("lost")],
            guard={"last_heartbeat": node.last_heartbeat},
        )
        try:
            await self._records.commit(node, change, actor=SWEEPER)
        except LostRace:
            log.info("node %s beat again before it was declared lost", node.name)

    async def _decide_containers(self, gone: dict[str, Node]) -> None:
        """`gone`: by uuid. For a node that was removed nobody waits."""
        removed = [uuid for uuid, node in gone.items() if node.status is NodeStatus.DELETED]
        waiting = {"status": Status.LOST.value, "node": {"$in": removed}}
        where = {"node": {"$in": list(gone)}, "$or": [*UNDECIDED, waiting]}
        for container in await self._records.store.find(
            Container, org=EVERY_ORG, where=where, sort=[], limit=BATCH
        ):
            node = gone[container.node or ""]
            try:
                await self._decide(container, node)
            except LostRace:
                log.info("container %s changed while its node was lost", container.uuid)
            except YardError:
                raise
            except Exception:
                log.exception("container %s of a lost node is decided later", container.uuid)

    async def _decide(self, container: Container, node: Node) -> None:
        """Writes first and frees leases then: should the node come back in between, it wins the
        race for the record, and what it runs is still leased."""
        lost, is_removed = container, node.status is NodeStatus.DELETED
        why = f"node {node.name} {'was removed' if is_removed else 'is lost'}"
        match container.desired:
            case Desired.DELETED:
                await self._write(container, moved(Status.DELETED, f"deleted; {why}"))
            case Desired.STOPPED:
                await self._write(container, moved(Status.STOPPED, f"stopped as requested; {why}"))
            case Desired.RUNNING:
                if container.status is not Status.LOST:
                    lost = await self._write(container, moved(Status.LOST, why))
                if container.spec.on_node_loss is OnNodeLoss.WAIT and not is_removed:
                    return
                await self._write(lost, place_again(f"replaced: {why}"))
        await self._leases.release(container.uuid, container.fence, node=container.node)

    async def _write(self, container: Container, change: Change) -> Container:
        return await self._records.commit(container, change, actor=SWEEPER)


class StaleLeases:
    """`age_s`: how long a record must have stood still before its lease is called stale."""

    def __init__(self, records: Records, leases: Leases, *, age_s: float) -> None:
        self._store = records.store
        self._leases = leases
        self._age = timedelta(seconds=age_s)
        self._clock = records.clock

    async def sweep(self) -> int:
        """Free all that are stale and say how many. Idempotent, safe in several workers at once."""
        nodes = await self._store.find(Node, org=EVERY_ORG, where={"leases": {"$ne": {}}}, sort=())
        held = [(node.uuid, lease) for node in nodes for lease in node.leases.values()]
        freed = 0
        for start in range(0, len(held), LEASES_AT_ONCE):
            freed += await self._free(held[start : start + LEASES_AT_ONCE])
        return freed

    async def _free(self, held: Sequence[tuple[str, Lease]]) -> int:
        before = self._clock() - self._age
        where = {"_id": {"$in": [lease.container for _, lease in held]}}
        found = await self._store.find(Container, org=EVERY_ORG, where=where, sort=())
        known = {record.uuid: record for record in found}
        freed = 0
        for node, lease in held:
            if is_stale(lease, node, known.get(lease.container), before=before):
                log.warning("freeing what %s left leased on node %s", lease.container, node)
                freed += await self._leases.release(
                    lease.container, lease.fence, node=node, attempt=lease.attempt
                )
        return freed


def is_stale(lease: Lease, node: str, record: Container | None, *, before: datetime) -> bool:
    """May this lease on `node` (a uuid) be freed?

    `record` is the container's, read after the lease was. A record that changed at or after
    `before` is left alone: whoever changed it may be about to free or to use the lease.
    """
    if record is None:
        return True
    if record.updated_at >= before:
        return False
    if record.status in OVER or lease.fence < record.fence:
        return True
    # A container that waits to be placed frees its own stale leases with the next attempt.
    return record.status is not Status.REQUESTED and record.node != node


class WaitingContainers:
    """Safe in several workers at once: each container is reminded by whoever comes first."""

    def __init__(self, records: Records, view: NodeView) -> None:
        self._records = records
        self._view = view

    async def follow(self) -> None:
        """Have what waits placed as soon as a node has more to give, until cancelled.

        Raises StoreUnavailable when the store's changes cannot be followed any more.
        """
        freed = asyncio.Event()

        def noticed(changed: ChangedFields) -> None:
            if changed == ChangedFields() or frees(changed):
                freed.set()

        await concurrency.gather_or_cancel(self._view.follow(noticed), self._wake(freed))

    async def _wake(self, freed: asyncio.Event) -> None:
        while True:
            await freed.wait()
            freed.clear()
            noticed = self._records.clock()
            await self.remind(noticed)
            await asyncio.sleep(AGAIN_S)
            await self.remind(noticed + timedelta(seconds=AGAIN_S / 2))

    async def remind(self, before: datetime) -> None:
        """Ask again for the first whose record has not been written since: whoever places it looks
        at all that wait."""
        idle = WAITING | {"updated_at": {"$lt": before}, "outbox": []}
        found = await self._records.store.find(
            Container, org=EVERY_ORG, where=idle, sort=FIRST, limit=REMINDED
        )
        for container in found:
            if await self._records.remind(container, command("place"), actor=WAKER):
                return


def frees(changed: ChangedFields) -> bool:
    """Whether a node may have more to give than before: heartbeats and new leases give nothing."""
    given_back = {path.partition(".")[0] for path in changed.removed} & _GIVEN
    known_anew = {path.partition(".")[0] for path in changed.set} & _CAPACITY
    return bool(given_back or known_anew or changed.set & _GIVEN)
