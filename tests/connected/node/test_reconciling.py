"""What an agent finds when it comes back, and orders that ended up in the wrong place."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.adapters.store.store import Store
from pipeline.containers import engine_plan
from pipeline.errors import EngineUnavailable, Fenced
from schemas.container import Container, Desired, HealthCheck, PortSpec
from schemas.states import ContainerStatus as Status
from schemas.states import NodeStatus
from tests.support.engines.freed import nothing_is_leased
from tests.support.engines.node_rig import NodeRig, node_rig
from tests.support.waiting import eventually


async def test_a_stop_whose_order_got_lost_is_carried_out(rig: NodeRig) -> None:
    container = await rig.up(gpus=1)
    await rig.containers.stop(rig.caller, container.uuid)
    await rig.agent.watching.reconcile()
    assert (await rig.record(container)).status is Status.STOPPED
    assert rig.world.only().status == "exited"
    await nothing_is_leased(rig)


@pytest.mark.parametrize("ended", [False, True])
async def test_a_removal_whose_order_got_lost_is_carried_out(rig: NodeRig, ended: bool) -> None:
    container = await rig.up(restart="no")
    if ended:
        rig.world.die(rig.world.only(), 1)
        await rig.agent.watching.look(container.uuid)
    await rig.containers.delete(rig.caller, container.uuid)
    await rig.agent.watching.reconcile()
    assert (await rig.record(container)).status is Status.DELETED
    assert not rig.world.containers


async def test_a_removal_of_what_is_gone_from_the_engine_is_completed(rig: NodeRig) -> None:
    container = await rig.up(restart="no")
    rig.world.die(rig.world.only(), 1)
    await rig.agent.watching.look(container.uuid)
    rig.world.containers.clear()
    await rig.containers.delete(rig.caller, container.uuid)
    await rig.agent.watching.reconcile()
    assert (await rig.record(container)).status is Status.DELETED


async def test_a_container_that_was_never_started_can_be_stopped(rig: NodeRig) -> None:
    """Its agent died between create and start; then its owner wanted it no more."""
    container = await rig.run(gpus=1)
    node = engine_plan.NodeIdentity(rig.settings.installation, rig.agent.uuid)
    await rig.engine.create(engine_plan.plan(container, [], node=node, simulated=True))
    await rig.containers.stop(rig.caller, container.uuid)
    await rig.hand_over()
    assert (await rig.record(container)).status is Status.STOPPED
    await nothing_is_leased(rig)


@pytest.mark.parametrize("change", ["deleted", "moved", "unknown"])
async def test_leftovers_are_removed(rig: NodeRig, change: str) -> None:
    container = await rig.up()
    match change:
        case "deleted":
            values = {"desired": Desired.DELETED.value}
            await rig.store.change(
                await rig.record(container), values, at=rig.clock(), status=Status.DELETED
            )
        case "moved":
            values = {"node": "another", "fence": container.fence + 1}
            await rig.store.change(await rig.record(container), values, at=rig.clock())
        case "unknown":
            await rig.store.delete(Container, container.uuid, org=container.org)
    await rig.agent.watching.reconcile()
    assert not rig.world.containers


async def test_containers_of_others_are_left_alone(rig: NodeRig) -> None:
    rig.world.make("somebody", **{"modelyard.managed": "true", "modelyard.installation": "other"})
    rig.world.make("nobody")
    await rig.agent.watching.reconcile()
    assert len(rig.world.containers) == 2


async def test_a_lost_container_that_runs_is_running_again(rig: NodeRig) -> None:
    container = await rig.up(gpus=1)
    await rig.store.change(await rig.record(container), {}, at=rig.clock(), status=Status.LOST)
    await rig.agent.watching.reconcile()
    found = await rig.record(container)
    assert (found.status, found.fence) == (Status.RUNNING, container.fence)
    assert container.uuid in (await rig.node()).leases


async def test_one_container_that_cannot_be_mended_holds_up_no_other(rig: NodeRig) -> None:
    stubborn = await rig.up()
    foreign = rig.world.only()
    foreign.spec["Labels"] = {}
    dead = await rig.up(restart="no")
    rig.world.die(next(m for m in rig.world.containers.values() if m is not foreign), 1)
    rig.sent.messages.clear()
    await rig.agent.watching.reconcile()
    assert (await rig.record(dead)).status is Status.FAILED
    assert (await rig.record(stubborn)).status is Status.RUNNING
    assert foreign.status == "running"


async def test_a_pull_that_takes_long_holds_up_no_comparison(store: Store) -> None:
    async with node_rig(store, pull_stall_s=60) as rig:
        rig.world.pull = "stalls"
        pulling = await rig.run(await rig.image())
        ((verb, order),) = rig.orders()
        launching_it = asyncio.create_task(rig.carry_out(verb, order))
        await rig.until(pulling, Status.PULLING)
        async with asyncio.timeout(30):
            await rig.agent.watching.reconcile()
        launching_it.cancel()
        await asyncio.wait([launching_it])


async def test_a_node_is_ready_only_once_its_containers_are_understood(store: Store) -> None:
    async with node_rig(store, is_ready=False) as rig:
        assert (await rig.node()).status is NodeStatus.NOT_READY
        rig.world.make("leftover", **left_by(rig))
        async with rig.alive():
            await eventually(lambda: is_ready(rig))
        assert not rig.world.containers


async def test_an_engine_that_is_away_is_told_to_the_caller(rig: NodeRig) -> None:
    rig.world.down = True
    with pytest.raises(EngineUnavailable):
        await rig.agent.watching.reconcile()


async def test_finished_containers_cost_a_comparison_nothing(rig: NodeRig) -> None:
    container = await rig.up(restart="no")
    rig.world.die(rig.world.only(), 1)
    await rig.agent.watching.look(container.uuid)
    rig.world.containers.clear()
    rig.world.seen.clear()
    await rig.agent.watching.reconcile()
    assert [exchange.path for exchange in rig.world.seen] == ["/containers/json"]


async def test_orders_for_another_node_are_refused(rig: NodeRig) -> None:
    container = await rig.up()
    current = await rig.record(container)
    await rig.store.change(current, {"node": "another"}, at=rig.clock())
    order = rig_order(rig, current)
    for verb in ("launch", "stop", "remove"):
        with pytest.raises(Fenced):
            await rig.carry_out(verb, order)
    assert rig.world.only().status == "running"


async def test_a_stop_that_nobody_wants_stops_nothing(rig: NodeRig) -> None:
    container = await rig.up()
    for verb in ("stop", "remove"):
        await rig.carry_out(verb, rig_order(rig, container))
    assert rig.world.only().status == "running"


def rig_order(rig: NodeRig, container: Container) -> object:
    from schemas.commands import NodeOrder

    return NodeOrder(container=container.uuid, org=container.org, fence=container.fence)


def left_by(rig: NodeRig) -> dict[str, str]:
    node = engine_plan.NodeIdentity(rig.settings.installation, rig.agent.uuid)
    return node.labels | {engine_plan.CONTAINER: "gone", engine_plan.FENCE: "1"}


async def is_ready(rig: NodeRig) -> bool:
    return (await rig.node()).status is NodeStatus.READY


async def test_a_probe_until_ready_asks_no_more_after_the_first_success(rig: NodeRig) -> None:
    once = HealthCheck(port=80, interval_s=0.05, until_ready=True, start_period_s=60)
    rig.health.status = 500
    container = await rig.up(ports=[PortSpec(internal=80)], health=once)
    async with rig.alive():
        await eventually(lambda: rig.health.asked > 1)
        rig.health.status = 200
        await eventually(lambda: "healthy" in rig.sent.kinds(container.uuid))
        probe = f"probe {container.uuid}"
        await eventually(lambda: probe not in {each.get_name() for each in asyncio.all_tasks()})
        assert (await rig.record(container)).status is Status.RUNNING
