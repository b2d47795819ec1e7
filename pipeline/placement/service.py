"""The stage that finds nodes and leases what containers need there, all or nothing of each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from pipeline.catalog.gates import Gates
from pipeline.containers.changes import node_order
from pipeline.errors import CannotPlace, LostRace, NoCapacity, NotFound, Overloaded, YardError
from pipeline.nodes.leases import Leases
from pipeline.placement import reasons
from pipeline.placement.batches import Ask, Batch, Loading, Pending, fail
from pipeline.placement.line import Line
from pipeline.placement.node_view import NodeView
from pipeline.placement.planner import Planner
from pipeline.records.kernel import Change, Records, Rewrite
from pipeline.records.messages import command, event
from pipeline.telemetry import current_cause
from schemas.base import Progress
from schemas.container import Container
from schemas.node import Node
from schemas.states import ContainerStatus as Status

log = logging.getLogger(__name__)

ATTEMPTS: Final = 20
"""Lost races for leases before the message is tried again later."""
TOGETHER: Final = 128
"""Containers that are planned together at most."""
NEAR: Final = 10
"""Moves in the queue are told of up to here; further back only the record shows them."""
PLACER: Final = "worker:placement"


class Placement:
    """Safe to run in several workers at once.

    Calls that come while others are planned are planned together next. Each attempt leases under
    the fencing number that its record will have and under an id of its own. Whoever finds a lease
    of a container that waits claims the next number in the record before he frees it: that shuts
    out the attempt that took it, dead or slow.
    """

    def __init__(
        self,
        records: Records,
        leases: Leases,
        view: NodeView,
        gates: Gates,
        *,
        node_grace_s: float,
        patience_s: float,
    ) -> None:
        self._records = records
        self._store = records.store
        self._leases = leases
        self._view = view
        self._line = Line(records.store, records.clock)
        self._loading = Loading(records.store, view, self._line, gates)
        self._planner = Planner(view.capacity, grace_s=node_grace_s, patience_s=patience_s)
        self._clock = records.clock
        self._asked: list[Ask] = []
        self._planning = asyncio.Lock()
        self._launching: set[str] = set()
        """Containers that are leased and whose records do not say so yet."""

    async def place(self, org: str, uuid: str) -> None:
        """Move a REQUESTED container to PLACED. Idempotent: any other state is left alone.

        When nothing is free the container stays REQUESTED, with the reasons, until the sweep asks
        again, and so does one that a node had before; when nothing can ever fit, or what is asked
        for makes no sense, it becomes FAILED. Raises NotFound, LostRace when somebody else is at
        it, StoreUnavailable.
        """
        answer: asyncio.Future[Container | None] = asyncio.get_running_loop().create_future()
        ask = Ask(org, uuid, current_cause(), answer)
        self._asked.append(ask)
        batch: Batch | None = None
        try:
            async with self._planning:
                if not ask.is_taken:
                    batch = self._take()
                    await self._lease(batch)
            if batch is not None:
                await self._launch(batch)
                await self._refuse(batch)
                await self._go_on(batch)
        except BaseException as error:
            if batch is None:
                ask.is_taken = True
                raise
            self._give_up(batch, error)
            if not isinstance(error, YardError):
                raise
        if (sending := await answer) is not None:
            await self._records.outbox.send(sending)

    async def _go_on(self, batch: Batch) -> None:
        """Say what is to be said of those that waited and were placed with this batch, and place
        those that waited behind them."""
        while unasked := batch.unasked:
            self._line.look_again()
            await asyncio.gather(*(self._records.outbox.send(each) for each in unasked))
            batch = Batch([])
            async with self._planning:
                await self._lease(batch)
            await self._launch(batch)

    def _take(self) -> Batch:
        waiting = [ask for ask in self._asked if not ask.is_taken]
        taken, self._asked = waiting[:TOGETHER], waiting[TOGETHER:]
        for ask in taken:
            ask.is_taken = True
        return Batch(taken)

    def _give_up(self, batch: Batch, error: BaseException) -> None:
        """What was leased meanwhile is found by the next attempt."""
        log.warning("placing %d containers was cut off: %s", len(batch.asks), error)
        cut_off = Overloaded("Whoever planned it with others was cut off: it is tried again.")
        fail(batch.asks, error if isinstance(error, YardError) else cut_off)

    # --- planning and leasing

    async def _lease(self, batch: Batch) -> None:
        """Each of `pending` has a lease or a refusal then, or was answered."""
        began = self._clock()
        await self._view.refresh()
        await self._loading.load(batch, self._launching)
        await self._clear(batch)
        for _ in range(ATTEMPTS):
            open_ = [p for p in batch.pending if p.lease is None and p.refusal is None]
            if not open_:
                break
            self._planner.plan(open_, batch.attempt, now=self._clock())
            await self._acquire([each for each in open_ if each.lease is not None])
            await self._believe(open_, began)
        for each in batch.pending:
            if each.lease is None and each.refusal is None:
                each.fail(Overloaded(f"It lost {ATTEMPTS} races for a node: it is tried again."))
        batch.pending = [each for each in batch.pending if each.lease or each.refusal]
        self._launching |= {each.container.uuid for each in batch.pending if each.lease}

    async def _clear(self, batch: Batch) -> None:
        """Free what earlier attempts left, each once its number is claimed."""
        for pending in list(batch.pending):
            container = pending.container
            if not (holding := self._view.capacity.holders(container.uuid)):
                continue
            claim = Change({"fence": container.fence + 1})
            try:
                pending.container = await self._records.commit(container, claim)
            except (LostRace, NotFound) as error:
                pending.fail(error)
                batch.pending.remove(pending)
                continue
            for node in holding:
                lease = node.leases[container.uuid]
                await self._leases.release(container.uuid, lease.fence, node=node.uuid)
            await self._view.look_again(node.uuid for node in holding)

    async def _acquire(self, pending: Sequence[Pending]) -> None:
        """Who loses a race has no lease afterwards, and looks again."""
        nodes: dict[str, tuple[Node, list[Pending]]] = {}
        for each in pending:
            assert each.choice is not None, "who has a lease has a node"
            nodes.setdefault(each.choice.node.uuid, (each.choice.node, []))[1].append(each)
        wanted = [(node, [p.lease for p in of if p.lease]) for node, of in nodes.values()]
        given = await self._leases.acquire_all(wanted)
        lost = [uuid for uuid in nodes if uuid not in given]
        for uuid in lost:
            for each in nodes[uuid][1]:
                each.choice = each.lease = None
        if lost:
            await self._view.look_again(lost)

    async def _believe(self, pending: Sequence[Pending], began: datetime) -> None:
        """Before it is believed that nothing can ever fit, it has to be true of the nodes as they
        are now; that nothing fits at the moment, where changes are not followed."""
        doubtful = [
            each
            for each in pending
            if each.refusal and (type(each.refusal) is CannotPlace or not self._view.is_followed)
        ]
        if doubtful and await self._view.read_since(began):
            for each in doubtful:
                each.refusal = None

    # --- what becomes of it

    async def _launch(self, batch: Batch) -> None:
        """Write who is placed; each caller sends what is said of his container."""
        leased = [each for each in batch.pending if each.lease is not None]
        if not leased:
            return
        try:
            placed = await self._records.write_all(
                Container, [_rewrite(each) for each in leased], actor=PLACER
            )
            for each, record in zip(leased, placed, strict=True):
                if record is None:
                    await self._take_back(each)
                elif each.asks:
                    each.answer(record)
                else:
                    batch.unasked.append(record)
        finally:
            # Cut off or not: else nobody in this process may place them ever again.
            self._launching -= {each.container.uuid for each in leased}

    async def _take_back(self, lost: Pending) -> None:
        assert lost.choice is not None
        assert lost.lease is not None
        uuid, node = lost.container.uuid, lost.choice.node.uuid
        lease = lost.lease
        await self._leases.release(uuid, lease.fence, node=node, attempt=lease.attempt)
        await self._view.look_again([node])
        lost.fail(LostRace(f"Container {uuid} was changed by somebody else."))

    async def _refuse(self, batch: Batch) -> None:
        for each in batch.pending:
            if each.refusal is None or not each.asks:
                continue
            try:
                await self._settle(each.container, each.refusal)
            except YardError as error:
                each.fail(error)
            else:
                each.answer()

    async def _settle(self, container: Container, error: YardError) -> None:
        match error:
            case NoCapacity():
                await self._tell(container, error, Status.REQUESTED, "waiting")
            case YardError(retryable=True):
                raise error
            case _ if container.was_placed and "nodes" in error.facts:
                await self._tell(container, _passing(error), Status.REQUESTED, "waiting")
            case _:
                await self._tell(container, error, Status.FAILED, "failed")

    async def _tell(
        self, container: Container, error: YardError, status: Status, kind: str
    ) -> None:
        """Tells the reasons and the place in the queue, once while they stay the same."""
        refusals = reasons.told(error.facts)
        is_waiting = status is Status.REQUESTED
        place = await self._line.position(container) if is_waiting else None
        is_known = status is container.status and reasons.is_same(container.refusals, refusals)
        if is_known and place == container.queue_position:
            return
        values = {"refusals": refusals, "queue_position": place}
        failure = {} if is_waiting else {"failure": error.code}
        is_told = not is_known or (place or 0) <= NEAR
        send = [event(kind, **values)] if is_told else []
        if failure and container.replaces is not None:
            send.append(command("delete"))
        change = Change({**values, **failure}, status, error.message, send)
        await self._records.commit(container, change, actor=PLACER)
        self._line.look_again()


def _rewrite(leased: Pending) -> Rewrite[Container]:
    assert leased.choice is not None
    assert leased.lease is not None
    node, lease = leased.choice.node, leased.lease
    values = {
        "node": node.uuid,
        "node_name": node.name,
        "fence": lease.fence,
        "gpus": [*leased.kept, *lease.gpus],
        "was_placed": True,
        "queue_position": None,
        "refusals": {},
        # That of an earlier launch, on another node, says nothing about this one.
        "progress": Progress(),
    }
    placed = event("placed", gpus=values["gpus"], fence=lease.fence)
    send = [placed, node_order("launch")]
    change = Change(values, status=Status.PLACED, reason=None, send=send)
    causes = (ask.cause for ask in leased.asks)
    # No two attempts that hold a lease of one node have the same number there.
    return Rewrite(leased.container, change, own=("node", "fence"), cause=next(causes, None))


def _passing(error: YardError) -> NoCapacity:
    """For one that a node had before: what has changed since may change again."""
    return NoCapacity(
        "No node can run it now. One could before, so it waits until one can again.", **error.facts
    )
