"""Containers that are up: restarts, health, GPUs, and what somebody does to them by hand."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pipeline.adapters.store.store import Store
from pipeline.errors import Fenced, GpusUnreadable, Misconfigured
from schemas.container import HealthCheck, PortSpec, RestartPolicy
from schemas.states import ContainerStatus as Status
from schemas.states import NodeStatus
from tests.support.engines.freed import nothing_is_leased
from tests.support.engines.node_rig import ORG, NodeRig, node_rig
from tests.support.waiting import eventually

CHECK = HealthCheck(port=80, interval_s=0.05, timeout_s=1, retries=2, start_period_s=0)
PROBED: dict[str, Any] = {"ports": [PortSpec(internal=80)], "health": CHECK}


async def test_what_dies_is_started_again_after_its_backoff(rig: NodeRig) -> None:
    container = await rig.up()
    async with rig.alive():
        rig.world.die(rig.world.only(), 1)
        found = await rig.until(container, Status.RUNNING, restarts=1)
    assert (found.backoff_s, found.restart_at, found.exit_code) == (0.1, None, None)
    assert "restarting" in rig.sent.kinds(container.uuid)


async def test_flapping_is_slowed_down_to_a_cap_and_forgiven_after_a_stable_time(
    store: Store,
) -> None:
    async with node_rig(store, restart_backoff_s=0.02, restart_backoff_max_s=0.1) as rig:
        container = await rig.up()
        async with rig.alive():
            waits = []
            for restarts in range(1, 6):
                rig.world.die(rig.world.only(), 1)
                waits.append(await rig.until(container, Status.RUNNING, restarts=restarts))
            assert [found.backoff_s for found in waits] == [0.02, 0.04, 0.08, 0.1, 0.1]
            # A look that began before it would reckon with the time of then.
            async with rig.agent.watching._reconciler.locked(container.uuid):
                rig.clock.skip(rig.settings.restart_reset_s)
                rig.world.die(rig.world.only(), 1)
            found = await rig.until(container, Status.RUNNING, restarts=6)
    assert found.backoff_s == 0.02


async def test_unhealthy_flapping_is_slowed_down_to_a_cap(store: Store) -> None:
    async with node_rig(store, restart_backoff_s=0.02, restart_backoff_max_s=0.05) as rig:
        container = await rig.up()
        async with rig.alive():
            waits = []
            for restarts in range(1, 5):
                rig.world.sicken(rig.world.only())
                found = await rig.until(container, Status.RUNNING, restarts=restarts)
                waits.append(found.backoff_s)
    assert waits == [0.02, 0.04, 0.05, 0.05]


async def test_a_timer_survives_its_agent(store: Store) -> None:
    async with node_rig(store, restart_backoff_s=0.5) as rig:
        container = await rig.up()
        rig.world.die(rig.world.only(), 1)
        await rig.agent.watching.look(container.uuid)
        await rig.until(container, Status.RESTARTING)
        await rig.agent.close()
        async with rig.alive():
            await rig.until(container, Status.RUNNING, restarts=1)


async def test_a_restart_that_fails_says_why_and_is_tried_again(rig: NodeRig) -> None:
    container = await rig.up()
    rig.world.refusals["start"] = "the volume is gone"
    async with rig.alive():
        rig.world.die(rig.world.only(), 1)
        put_off = await rig.until(container, Status.RESTARTING, restarts=2)
        assert "the volume is gone" in (put_off.reason or "")
        rig.world.refusals.clear()
        await rig.until(container, Status.RUNNING, restarts=3)


async def test_a_container_that_must_not_restart_ends(rig: NodeRig) -> None:
    container = await rig.up(restart=RestartPolicy.NO, gpus=1)
    async with rig.alive():
        rig.world.die(rig.world.only(), 3)
        found = await rig.until(container, Status.FAILED)
        await nothing_is_leased(rig)
    assert (found.exit_code, found.reason) == (3, "exited with code 3")


async def test_a_container_whose_port_was_taken_while_it_was_down_gets_another(
    rig: NodeRig,
) -> None:
    container = await rig.up(restart=RestartPolicy.ALWAYS, ports=[PortSpec(internal=80)])
    had = container.ports[0].host
    async with rig.alive():
        rig.world.taken_ports = {had}
        rig.world.die(rig.world.only(), 1)
        found = await rig.until(container, Status.REQUESTED)
        assert found.reason == "placed anew: a host port that it had is in use"
        await nothing_is_leased(rig)
        await rig.until_node(NodeStatus.READY)
        await rig.placing.place(ORG, container.uuid)
        await rig.hand_over()
        found = await rig.until(container, Status.RUNNING)
    assert found.ports[0].host != had


async def test_a_missed_death_is_found_when_the_event_stream_is_back(rig: NodeRig) -> None:
    container = await rig.up(restart=RestartPolicy.NO)
    async with rig.alive():
        rig.world.cut()
        rig.world.die(rig.world.only(), 137)
        found = await rig.until(container, Status.FAILED)
    assert found.exit_code == 137


async def test_a_container_removed_by_hand_has_failed(rig: NodeRig) -> None:
    container = await rig.up()
    async with rig.alive():
        await eventually(lambda: rig.agent.watching._reconciler.has_compared)
        rig.world.lose(rig.world.only())
        found = await rig.until(container, Status.FAILED)
    assert "removed" in (found.reason or "")


# --- health -----------------------------------------------------------------------------------


async def test_a_failing_probe_restarts_the_container(rig: NodeRig) -> None:
    container = await rig.up(**PROBED)
    async with rig.alive():
        rig.health.status = 500
        sick = await rig.until(container, Status.UNHEALTHY)
        assert "answered 500" in (sick.reason or "")
        await rig.until(container, Status.RUNNING, restarts=1)
        rig.health.status = 200
    assert rig.world.only().starts == 2


async def test_a_probe_that_recovers_in_time_spares_the_restart(store: Store) -> None:
    async with node_rig(store, restart_backoff_s=60) as rig:
        container = await rig.up(**PROBED)
        async with rig.alive():
            rig.health.status = 500
            await rig.until(container, Status.UNHEALTHY)
            rig.health.status = 200
            found = await rig.until(container, Status.RUNNING)
    assert (found.restarts, found.restart_at) == (0, None)


async def test_failures_within_the_start_period_do_not_count(rig: NodeRig) -> None:
    """And it begins anew with each start."""
    patient = CHECK.model_copy(update={"start_period_s": 0.5})
    container = await rig.up(**PROBED | {"health": patient})
    rig.health.status = 500
    async with rig.alive():
        await rig.until(container, Status.RUNNING, restarts=1)
        asked = rig.health.asked
        await eventually(lambda: rig.health.asked > asked + CHECK.retries)
        found = await rig.record(container)
        assert (found.status, found.healthy_since) == (Status.RUNNING, None)
        await rig.until(container, Status.RUNNING, restarts=2)


async def test_a_probed_container_is_healthy_once_its_probe_succeeds(rig: NodeRig) -> None:
    patient = CHECK.model_copy(update={"start_period_s": 60})
    rig.health.status = 500
    container = await rig.up(**PROBED | {"health": patient})
    assert container.healthy_since is None
    async with rig.alive():
        await eventually(lambda: rig.health.asked > 1)
        assert (await rig.record(container)).healthy_since is None
        rig.health.status = 200
        await eventually(lambda: "healthy" in rig.sent.kinds(container.uuid))
        assert (await rig.record(container)).healthy_since is not None
        rig.health.status = 500
        await rig.until(container, Status.UNHEALTHY)


async def test_a_container_that_stays_healthy_costs_the_store_nothing(rig: NodeRig) -> None:
    container = await rig.up(**PROBED)
    async with rig.alive():
        await eventually(lambda: "healthy" in rig.sent.kinds(container.uuid))
        asked, revision = rig.health.asked, (await rig.record(container)).revision
        await eventually(lambda: rig.health.asked > asked + 5)
        assert (await rig.record(container)).revision == revision


async def test_a_container_that_stopped_is_probed_no_more(rig: NodeRig) -> None:
    container = await rig.up(**PROBED)
    async with rig.alive():
        await eventually(lambda: rig.health.asked > 1)
        await rig.containers.stop(rig.caller, container.uuid)
        await rig.hand_over()
        asked = rig.health.asked
        await asyncio.sleep(0.2)
    assert rig.health.asked <= asked + 1
    assert (await rig.record(container)).status is Status.STOPPED


async def test_a_probe_of_a_container_that_is_elsewhere_by_now_says_nothing(rig: NodeRig) -> None:
    container = await rig.up(**PROBED)
    async with rig.alive():
        await eventually(lambda: rig.health.asked > 1)
        current = await rig.record(container)
        elsewhere = {"node": "another", "fence": current.fence + 1}
        moved = await rig.store.change(current, elsewhere, at=rig.clock())
        rig.health.status = 500
        # What is left here goes, and its end says nothing about the other one.
        await eventually(lambda: not rig.world.containers)
        await asyncio.sleep(0.2)
        assert (await rig.record(container)).revision == moved.revision


async def test_a_timer_of_a_container_that_is_elsewhere_by_now_starts_nothing(rig: NodeRig) -> None:
    container = await rig.up()
    current = await rig.record(container)
    elsewhere = {"node": "another", "fence": current.fence + 1, "restart_at": rig.clock()}
    moved = await rig.store.change(current, elsewhere, at=rig.clock(), status=Status.RESTARTING)
    with pytest.raises(Fenced):
        await rig.agent.restarts._restart(container.uuid)
    assert (await rig.record(container)).revision == moved.revision


# --- GPUs -------------------------------------------------------------------------------------


async def test_a_container_that_lost_its_gpu_is_made_anew_on_another(rig: NodeRig) -> None:
    container = await rig.up(gpus=1)
    (lost,) = container.gpus
    first = rig.world.only().id
    async with rig.alive():
        rig.gpus.lose(lost)
        away = await rig.until(container, Status.REQUESTED)
        assert lost in (away.reason or "")
        await eventually(lambda: not rig.world.containers)
        await nothing_is_leased(rig)
        await rig.until_node(NodeStatus.READY)
        await rig.placing.place(container.org, container.uuid)
        await rig.hand_over()
        found = await rig.until(container, Status.RUNNING)
    assert found.fence > container.fence
    assert found.gpus
    assert lost not in found.gpus
    assert rig.world.only().id != first
    assert list((await rig.node()).held) == found.gpus


async def test_a_gpu_with_a_fault_is_cordoned_and_what_runs_there_goes_on(rig: NodeRig) -> None:
    container = await rig.up(gpus=1)
    (sick,) = container.gpus
    async with rig.alive():
        rig.gpus.fail(sick, "XID 48")
        await eventually(lambda: is_cordoned(rig, sick))
    assert (await rig.record(container)).revision == container.revision
    other = await rig.up(gpus=1)
    assert sick not in other.gpus
    third = await rig.run(gpus=1)
    assert third.status is Status.REQUESTED
    assert "out of order" in third.refusals["one"][0]


async def test_on_a_gpu_with_a_fault_nothing_is_started_again(rig: NodeRig) -> None:
    container = await rig.up(gpus=1)
    (sick,) = container.gpus
    async with rig.alive():
        rig.gpus.fail(sick, "XID 79")
        await eventually(lambda: is_cordoned(rig, sick))
        rig.world.die(rig.world.only(), 1)
        away = await rig.until(container, Status.REQUESTED)
        assert "XID 79" in (away.reason or "")
        await rig.until_node(NodeStatus.READY)
        await rig.placing.place(container.org, container.uuid)
        await rig.hand_over()
        found = await rig.until(container, Status.RUNNING)
    assert sick not in found.gpus


async def test_a_gpu_that_fails_before_the_launch_is_not_launched_on(rig: NodeRig) -> None:
    container = await rig.run(gpus=1)
    (sick,) = container.gpus
    rig.gpus.fail(sick, "XID 79")
    await rig.agent.registration.beat(reconciled=True)
    assert not await rig.hand_over()
    assert (await rig.record(container)).status is Status.REQUESTED
    assert not rig.world.containers
    await nothing_is_leased(rig)


async def test_gpus_that_are_away_for_a_while_end_nothing(rig: NodeRig) -> None:
    """A single node whose agent starts once before its driver is there."""
    ran = await rig.up(gpus=1, gpu_model="h100", restart=RestartPolicy.ALWAYS)
    all_of_them = rig.gpus.reading
    for one in all_of_them.gpus:
        rig.gpus.lose(one.uuid)
    await rig.agent.registration.beat(reconciled=True)
    await rig.agent.watching.reconcile()
    never_ran = await rig.run(gpus=2, gpu_model="h100")
    too_much = await rig.run(gpus=3)
    rig.clock.skip(1)
    await rig.placing.place(ORG, ran.uuid)
    for container in (ran, never_ran):
        found = await rig.record(container)
        assert found.status is Status.REQUESTED, found.reason
        assert "the node has 0 (2 when all were there)" in found.refusals["one"][0]
    assert too_much.status is Status.FAILED
    rig.gpus.reading = all_of_them
    await rig.agent.registration.beat(reconciled=True)
    assert (await rig.node()).had is None
    await rig.placing.place(ORG, ran.uuid)
    await rig.hand_over()
    assert (await rig.record(ran)).status is Status.RUNNING


async def test_what_ran_once_waits_also_for_what_no_node_is_known_to_have(rig: NodeRig) -> None:
    """Its node is gone for good, or answers to other labels by now."""
    ran = await rig.up(gpus=1)
    current = await rig.record(ran)
    wider = current.spec.model_copy(update={"node_labels": {"zone": "a"}})
    changed = {"spec": wider.model_dump(), "node": None}
    await rig.store.change(current, changed, at=rig.clock(), status=Status.REQUESTED)
    await rig.placing.place(ORG, ran.uuid)
    found = await rig.record(ran)
    assert found.status is Status.REQUESTED
    assert "so it waits" in (found.reason or "")
    assert "zone=a" in found.refusals["one"][0]


async def is_cordoned(rig: NodeRig, uuid: str) -> bool:
    """As a node that is READY tells it: an agent that has just begun is not."""
    node = await rig.node()
    sick = any(gpu.uuid == uuid and not gpu.healthy for gpu in node.inventory.gpus)
    return node.status is NodeStatus.READY and sick


# --- the node itself --------------------------------------------------------------------------


async def test_a_node_whose_engine_does_not_answer_is_not_ready_and_not_lost(rig: NodeRig) -> None:
    async with rig.alive():
        await rig.until_node(NodeStatus.READY)
        rig.world.down = True
        await rig.until_node(NodeStatus.NOT_READY)
        before = (await rig.node()).last_heartbeat
        await eventually(lambda: beats_after(rig, before))
        rig.world.down = False
        await rig.until_node(NodeStatus.READY)


async def test_a_node_whose_gpus_cannot_be_read_is_not_ready(
    rig: NodeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise GpusUnreadable("NVML cannot read the GPUs: check the driver.")

    monkeypatch.setattr(rig.gpus, "read", broken)
    node = await rig.agent.registration.beat(reconciled=True)
    assert node.status is NodeStatus.NOT_READY
    assert "check the driver" in (node.reason or "")


async def test_a_second_machine_of_the_same_name_is_refused_before_it_touches_anything(
    rig: NodeRig,
) -> None:
    container = await rig.up()
    rig.world.id = "engine-2"
    rig.world.containers.clear()
    with pytest.raises(Misconfigured, match="MODELYARD_NODE_NAME"):
        await rig.agent.registration.require_own()
    with pytest.raises(Misconfigured, match="MODELYARD_NODE_NAME"):
        await rig.agent.run()
    assert (await rig.record(container)).status is Status.RUNNING
    rig.clock.skip(rig.settings.node_grace_s + 1)
    await rig.agent.registration.require_own()


async def test_a_heartbeat_tells_images_only_when_they_changed(rig: NodeRig) -> None:
    def asked() -> int:
        return sum(exchange.path == "/images/json" for exchange in rig.world.seen)

    before = asked()
    for _ in range(3):
        await rig.agent.registration.beat(reconciled=True)
    assert asked() == before
    container = await rig.up(await rig.image())
    await rig.agent.registration.beat(reconciled=True)
    assert asked() == before + 1
    assert (await rig.node()).images == [container.pull.partition("@")[2]]


async def beats_after(rig: NodeRig, moment: Any) -> bool:
    return bool((await rig.node()).last_heartbeat > moment)
