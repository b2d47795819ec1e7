"""Nodes that fall silent, and what becomes of the containers on them."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.containers.observation import OVER
from pipeline.errors import LostRace, StoreUnavailable
from schemas.container import Container, OnNodeLoss
from schemas.states import ContainerStatus as Status
from schemas.states import NodeStatus
from tests.support.engines.freed import nothing_is_leased
from tests.support.engines.node_rig import NodeRig

GRACE_S, INTERVAL_S = 20, 5


async def silence(rig: NodeRig, seconds: float) -> None:
    """Sweeps go on, no heartbeat comes."""
    for _ in range(int(seconds / INTERVAL_S)):
        await rig.nodes.sweep()
        rig.clock.skip(INTERVAL_S)
    await rig.nodes.sweep()


async def status(rig: NodeRig) -> NodeStatus:
    return (await rig.node()).status


async def test_a_node_that_is_silent_for_the_grace_is_lost(rig: NodeRig) -> None:
    await silence(rig, GRACE_S - INTERVAL_S)
    assert await status(rig) is NodeStatus.READY
    await silence(rig, INTERVAL_S)
    assert await status(rig) is NodeStatus.LOST
    assert rig.sent.kinds(rig.agent.uuid)[-1] == "lost"


async def test_a_node_that_beats_is_not_lost_whatever_its_clock_says(rig: NodeRig) -> None:
    behind = rig.clock()
    for _ in range(10):
        rig.clock.skip(INTERVAL_S)
        behind = behind.replace(year=behind.year - 1)
        beat = {"$set": {"last_heartbeat": behind}}
        await rig.store.update(
            type(await rig.node()), rig.agent.uuid, org=rig.settings.org, guard={}, update=beat
        )
        await rig.nodes.sweep()
    assert await status(rig) is NodeStatus.READY


async def test_a_store_that_was_away_makes_no_node_look_silent(
    rig: NodeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await silence(rig, GRACE_S - INTERVAL_S)

    async def away(*args: Any, **kwargs: Any) -> None:
        raise StoreUnavailable("The store does not answer.")

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.placement.sweeps.bulk.read_fields", away)
        rig.clock.skip(INTERVAL_S)
        with pytest.raises(StoreUnavailable):
            await rig.nodes.sweep()
    await silence(rig, GRACE_S - INTERVAL_S)
    assert await status(rig) is NodeStatus.READY


async def test_a_machine_that_slept_finds_nobody_silent_when_it_wakes(rig: NodeRig) -> None:
    await rig.nodes.sweep()
    rig.clock.skip(3600)
    await rig.nodes.sweep()
    assert await status(rig) is NodeStatus.READY


async def test_containers_of_a_lost_node_are_placed_anew(rig: NodeRig) -> None:
    container = await rig.up(gpus=1)
    await silence(rig, GRACE_S)
    found = await rig.record(container)
    assert (found.status, found.node, found.gpus) == (Status.REQUESTED, None, [])
    await nothing_is_leased(rig)
    assert rig.sent.kinds(container.uuid)[-2:] == ["lost", "requested"]


async def test_a_container_that_waits_for_its_node_keeps_what_it_holds(rig: NodeRig) -> None:
    container = await rig.up(gpus=1, on_node_loss=OnNodeLoss.WAIT)
    await silence(rig, 2 * GRACE_S)
    assert (await rig.record(container)).status is Status.LOST
    assert list((await rig.node()).held) == container.gpus
    assert rig.sent.kinds(container.uuid).count("lost") == 1


@pytest.mark.parametrize("on_loss", list(OnNodeLoss))
@pytest.mark.parametrize(("ask", "end"), [("stop", Status.STOPPED), ("delete", Status.DELETED)])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_what_its_owner_wants_of_a_container_happens_though_its_node_is_lost(
    rig: NodeRig, on_loss: OnNodeLoss, ask: str, end: Status, when: str
) -> None:
    container = await rig.up(gpus=1, on_node_loss=on_loss)
    if when == "after":
        await silence(rig, GRACE_S)
    await getattr(rig.containers, ask)(rig.caller, container.uuid)
    if when == "before":
        await silence(rig, GRACE_S)
    found = await rig.record(container)
    assert found.status is end
    await nothing_is_leased(rig)


async def test_a_finished_container_can_be_deleted_though_its_node_is_lost(rig: NodeRig) -> None:
    container = await rig.up(restart="no")
    rig.world.die(rig.world.only(), 1)
    await rig.agent.watching.look(container.uuid)
    await rig.containers.delete(rig.caller, container.uuid)
    await silence(rig, GRACE_S)
    assert (await rig.record(container)).status is Status.DELETED
    again = await rig.agent.registration.beat(reconciled=True)
    assert again.status is NodeStatus.NOT_READY
    await rig.agent.watching.reconcile()
    assert not rig.world.containers


async def test_a_node_that_comes_back_in_the_last_moment_keeps_its_leases(
    rig: NodeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = await rig.up(gpus=1)
    await rig.store.change(await rig.record(container), {}, at=rig.clock(), status=Status.LOST)
    lost = await rig.record(container)
    await rig.agent.watching.reconcile()
    with pytest.raises(LostRace):
        await rig.nodes._decide(lost, await rig.node())
    found = await rig.record(container)
    assert found.status is Status.RUNNING
    assert list((await rig.node()).held) == found.gpus


async def test_more_containers_than_one_sweep_decides_about_are_decided_about(
    rig: NodeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.placement.sweeps.BATCH", 2)
    waiting = [await rig.up(on_node_loss=OnNodeLoss.WAIT) for _ in range(3)]
    stopped = await rig.up()
    await rig.containers.stop(rig.caller, stopped.uuid)
    await silence(rig, GRACE_S)
    for _ in range(3):
        await rig.nodes.sweep()
    assert [(await rig.record(each)).status for each in waiting] == [Status.LOST] * 3
    assert (await rig.record(stopped)).status in OVER


async def test_a_container_that_was_replaced_while_its_agent_was_away_is_discarded(
    rig: NodeRig,
) -> None:
    container = await rig.up()
    await silence(rig, GRACE_S)
    assert rig.world.only().status == "running"
    await rig.agent.watching.reconcile()
    assert not rig.world.containers
    assert isinstance(await rig.record(container), Container)
