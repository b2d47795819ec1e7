"""Containers that wait for a node: woken by what is freed, told why they wait and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime

import pytest

from pipeline.adapters.store.documents import ChangedFields
from pipeline.placement.sweeps import WaitingContainers, frees
from schemas.container import Container
from schemas.node import Node
from schemas.states import ContainerStatus as Status
from schemas.states import NodeStatus
from tests.support.engines.node_rig import NodeRig
from tests.support.records import gpu, node
from tests.support.waiting import eventually

Free = Callable[[NodeRig, Container], Awaitable[object]]


async def release(rig: NodeRig, holder: Container) -> None:
    await rig.leases.release(holder.uuid, holder.fence)


async def join(rig: NodeRig, holder: Container) -> None:
    await rig.store.insert(node("two", gpu("g1"), gpu("g2"), at=rig.clock()))


async def mend(rig: NodeRig, holder: Container) -> None:
    await rig.store.change(await rig.node(), {}, at=rig.clock(), status=NodeStatus.READY)


async def uncordon(rig: NodeRig, holder: Container) -> None:
    await rig.store.change(await rig.node(), {"cordoned": False}, at=rig.clock())


class Counted(WaitingContainers):
    looks = 0

    async def remind(self, before: datetime) -> None:
        await super().remind(before)
        self.looks += 1


@asynccontextmanager
async def following(rig: NodeRig) -> AsyncIterator[None]:
    """Once it hears of changes, and has looked twice for what was freed before."""
    waiting = Counted(rig.records, rig.view)
    running = asyncio.create_task(waiting.follow())
    try:
        await eventually(lambda: waiting.looks >= 2)
        yield
    finally:
        running.cancel()
        await asyncio.wait([running])


def asked(rig: NodeRig, container: Container) -> list[str]:
    """Who had it placed again."""
    return [
        message.actor or ""
        for message in rig.sent.messages
        if message.type == "modelyard.cmd.container.place"
        and message.data["id"] == container.uuid
        and message.actor == "worker:waiting"
    ]


@pytest.mark.parametrize("free", [release, join, mend, uncordon])
async def test_what_waits_is_asked_for_at_once_when_something_is_freed(
    rig: NodeRig, free: Free
) -> None:
    holder = await rig.up(gpus=2)
    if free is mend:
        await rig.store.change(await rig.node(), {}, at=rig.clock(), status=NodeStatus.NOT_READY)
    if free is uncordon:
        await rig.store.change(await rig.node(), {"cordoned": True}, at=rig.clock())
    waiting = await rig.run(gpus=2)
    assert waiting.status is Status.REQUESTED
    await rig.outbox.close()
    async with following(rig):
        rig.sent.messages.clear()
        await rig.agent.registration.beat(reconciled=free is not mend)
        await rig.leases.acquire(await rig.node(), container="tiny", fence=1, cpus=0.1)
        await asyncio.sleep(0.3)
        assert not asked(rig, waiting)
        await free(rig, holder)
        await eventually(lambda: bool(asked(rig, waiting)))


async def test_what_waits_knows_its_place_in_the_queue_and_why(rig: NodeRig) -> None:
    holder = await rig.up(gpus=2)
    first, second = await rig.run(gpus=2), await rig.run(gpus=1)
    assert [first.queue_position, second.queue_position] == [1, 2]
    told = next(
        message.data
        for message in reversed(rig.sent.messages)
        if message.type == "modelyard.container.waiting"
    )
    assert told["queue_position"] == 2
    assert "0 free" in told["refusals"]["one"][0]
    await rig.containers.delete(rig.caller, holder.uuid)
    await rig.hand_over()
    await rig.placing.place(first.org, first.uuid)
    await rig.placing.place(second.org, second.uuid)
    first, second = await rig.record(first), await rig.record(second)
    assert (first.status, first.queue_position) == (Status.PLACED, None)
    assert (second.status, second.queue_position) == (Status.REQUESTED, 1)
    stopped = await rig.containers.stop(rig.caller, second.uuid)
    assert stopped.queue_position is None


async def test_those_that_wait_are_placed_by_priority_whoever_is_asked_for(rig: NodeRig) -> None:
    """One command is enough for all of them, and what is said of each is sent."""
    holder = await rig.up(gpus=2)
    low, high, plain = [await rig.run(gpus=1, priority=priority) for priority in (-5, 5, 0)]
    assert [each.queue_position for each in (low, high, plain)] == [1, 1, 2]
    await rig.containers.delete(rig.caller, holder.uuid)
    await rig.hand_over()
    await rig.placing.place(low.org, low.uuid)
    low, high, plain = [await rig.record(each) for each in (low, high, plain)]
    assert [each.status for each in (high, plain)] == [Status.PLACED] * 2
    assert (low.status, low.queue_position) == (Status.REQUESTED, 1)
    assert rig.sent.kinds(high.uuid)[-1] == rig.sent.kinds(plain.uuid)[-1] == "placed"
    assert len(rig.orders()) == 2


def test_heartbeats_and_new_leases_free_nothing() -> None:
    beat = ChangedFields(frozenset({"last_heartbeat"}))
    taken = ChangedFields(frozenset({"leases.c1", "held.g1", "leased_cpus"}))
    back = ChangedFields(frozenset({"leased_cpus"}), frozenset({"leases.c1"}))
    assert [frees(each) for each in (beat, taken, back)] == [False, False, True]


def test_a_node_that_is_mended_or_opened_or_joins_may_have_more_to_give() -> None:
    for path in ("status", "cordoned", "inventory.gpus.0.healthy", "leases", *Node.model_fields):
        changed = ChangedFields(frozenset({path}))
        known = ("status", "cordoned", "labels", "inventory", "leases", "held")
        assert frees(changed) is (path.split(".")[0] in known)
