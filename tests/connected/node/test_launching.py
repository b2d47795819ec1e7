"""Bringing a container up: pulls, ports, and whatever an earlier try left behind."""

from __future__ import annotations

import asyncio
import random
import socket
from contextlib import suppress

import pytest

from pipeline.adapters.store.store import Store
from pipeline.agent import machine
from pipeline.agent.machine import HostPorts
from pipeline.catalog.gates import reference_of
from pipeline.containers import engine_plan
from pipeline.errors import Fenced, LostRace, PullFailed
from schemas.container import Container, PortBinding, PortSpec
from schemas.states import ContainerStatus as Status
from tests.support import records as made
from tests.support.engines.freed import nothing_is_leased
from tests.support.engines.node_rig import NodeRig, node_rig
from tests.support.processes import any_free
from tests.support.records import ORG
from tests.support.waiting import eventually


async def test_a_launch_is_told_step_by_step(rig: NodeRig) -> None:
    container = await rig.up(await rig.image(), gpus=1)
    assert rig.sent.kinds(container.uuid) == [
        "requested",
        "placed",
        "pull.started",
        "pull.progressed",
        "pull.progressed",
        "pull.progressed",
        "created",
        "running",
    ]
    assert container.progress.percentage == 100
    assert rig.world.only().labels[engine_plan.FENCE] == str(container.fence)
    assert len((await rig.node()).held) == 1


async def test_progress_is_told_no_more_often_than_the_setting_says(store: Store) -> None:
    async with node_rig(store, progress_interval_s=600) as rig:
        container = await rig.up(await rig.image(), gpus=1)
        kinds = rig.sent.kinds(container.uuid)
    assert kinds.count("pull.progressed") == 1
    assert [kind for kind in kinds if kind != "pull.progressed"][2:] == [
        "pull.started",
        "created",
        "running",
    ]


async def test_an_order_that_comes_again_changes_nothing(rig: NodeRig) -> None:
    container = await rig.run()
    ((verb, order),) = rig.orders()
    for _ in range(3):
        await rig.carry_out(verb, order)
    assert rig.world.only().starts == 1
    assert rig.sent.kinds(container.uuid).count("running") == 1


async def test_the_same_order_side_by_side_launches_once(rig: NodeRig) -> None:
    await rig.run(await rig.image())
    ((verb, order),) = rig.orders()
    await asyncio.gather(*(rig.carry_out(verb, order) for _ in range(5)))
    assert len(rig.world.pulls) == 1
    assert rig.world.only().starts == 1


async def test_an_order_of_an_older_launch_is_refused(rig: NodeRig) -> None:
    await rig.run()
    ((verb, order),) = rig.orders()
    with pytest.raises(Fenced):
        await rig.carry_out(verb, order.model_copy(update={"fence": order.fence - 1}))
    assert not rig.world.containers


async def test_what_an_agent_that_died_before_the_start_left_is_adopted(rig: NodeRig) -> None:
    container = await rig.run()
    engine_id = await rig.engine.create(
        engine_plan.plan(
            container,
            [],
            node=engine_plan.NodeIdentity(rig.settings.installation, rig.agent.uuid),
            simulated=True,
        )
    )
    assert not await rig.hand_over()
    found = await rig.record(container)
    assert (found.status, found.engine_id) == (Status.RUNNING, engine_id)
    assert rig.world.only().starts == 1


async def test_what_an_older_launch_left_is_replaced_and_never_taken_for_the_new_one(
    rig: NodeRig,
) -> None:
    container = await rig.run()
    node = engine_plan.NodeIdentity(rig.settings.installation, rig.agent.uuid)
    older = container.model_copy(update={"fence": container.fence - 1})
    old_id = await rig.engine.create(engine_plan.plan(older, [], node=node, simulated=True))
    await rig.engine.start(old_id)
    await rig.agent.watching.look(container.uuid)
    assert (await rig.record(container)).status is Status.PLACED
    assert not await rig.hand_over()
    assert rig.world.only().id != old_id
    assert (await rig.record(container)).status is Status.RUNNING


# --- pulls ------------------------------------------------------------------------------------


async def test_a_pull_that_stalls_is_tried_again_and_fails_with_the_reason(rig: NodeRig) -> None:
    rig.world.pull = "stalls"
    container = await rig.run(await rig.image())
    ((verb, order),) = rig.orders()
    with pytest.raises(PullFailed) as stalled:
        await rig.carry_out(verb, order)
    assert stalled.value.retryable
    waiting = await rig.record(container)
    assert (waiting.status, waiting.progress.percentage) == (Status.PULLING, 50)
    await rig.carry_out(verb, order, last_try=True)
    failed = await rig.record(container)
    assert failed.status is Status.FAILED
    assert "stalled" in (failed.reason or "")
    await nothing_is_leased(rig)


async def test_a_pull_that_stalled_succeeds_when_it_is_tried_again(rig: NodeRig) -> None:
    rig.world.pull = "stalls"
    container = await rig.run(await rig.image())
    ((verb, order),) = rig.orders()
    with pytest.raises(PullFailed):
        await rig.carry_out(verb, order)
    rig.world.pull = "works"
    await rig.carry_out(verb, order)
    assert (await rig.record(container)).status is Status.RUNNING


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("write /var/lib/docker: no space left on device", "disk is full"),
        ("unauthorized: authentication required", "denies"),
        ("manifest unknown", "has no"),
    ],
)
async def test_a_pull_that_fails_says_why_and_leaves_nothing(
    rig: NodeRig, words: str, reason: str
) -> None:
    rig.world.pull = words
    container = await rig.run(await rig.image(), gpus=2)
    await rig.hand_over(last_try=True)
    failed = await rig.record(container)
    assert failed.status is Status.FAILED
    assert reason in (failed.reason or "")
    assert not rig.world.containers
    assert not rig.world.images
    assert not (await rig.node()).held


@pytest.mark.parametrize(("ask", "status"), [("stop", Status.STOPPED), ("delete", Status.DELETED)])
async def test_a_stop_or_removal_ends_a_pull_at_once(
    store: Store, ask: str, status: Status
) -> None:
    async with node_rig(store, pull_stall_s=60) as rig:
        await end_in_mid_pull(rig, ask, status)


async def end_in_mid_pull(rig: NodeRig, ask: str, status: Status) -> None:
    rig.world.pull = "stalls"
    container = await rig.run(await rig.image())
    ((verb, order),) = rig.orders()
    launching_it = asyncio.create_task(rig.carry_out(verb, order))
    await rig.until(container, Status.PULLING)
    await eventually(lambda: bool(rig.world.pulls))
    await getattr(rig.containers, ask)(rig.caller, container.uuid)
    async with asyncio.timeout(30):
        ((verb, ending),) = rig.orders()[1:]
        await rig.carry_out(verb, ending)
        await launching_it
    assert (await rig.record(container)).status is status
    assert not rig.world.containers
    await eventually(lambda: rig.world.pulls[0].closed.is_set())


async def test_a_reminder_does_not_disturb_a_pull_that_is_under_way(rig: NodeRig) -> None:
    container = await rig.run(await rig.image())
    before = await rig.record(container)
    await rig.remind()
    after = await rig.record(container)
    assert after.revision == before.revision
    assert after.updated_at > before.updated_at
    assert [verb for verb, _ in rig.orders()] == ["launch", "launch"]


# --- ports ------------------------------------------------------------------------------------


async def test_a_port_that_somebody_was_quicker_to_take_is_exchanged(
    rig: NodeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered = iter([41001, 41002])
    monkeypatch.setattr(HostPorts, "_free", lambda self, protocol: next(offered))
    rig.world.taken_ports = {41001}
    container = await rig.up(ports=[PortSpec(internal=8080)])
    assert container.ports == [PortBinding(internal=8080, host=41002, address="127.0.0.1")]
    assert rig.world.only().host_ports == [41002]


async def test_a_wanted_port_that_the_engine_says_is_taken_is_waited_for_elsewhere(
    rig: NodeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = any_free(random.Random())
    rig.world.taken_ports = {port}
    container = await rig.run(ports=[PortSpec(internal=80, host=port)])
    assert not await rig.hand_over()
    waiting = await rig.record(container)
    assert waiting.status is Status.REQUESTED
    assert waiting.reason == f"placed anew: host port {port}/tcp is in use on its node"
    assert not rig.world.containers
    await nothing_is_leased(rig)
    # No socket shows it, but the engine's word counts for a while.
    await rig.agent.registration.beat(reconciled=True)
    await rig.placing.place(ORG, container.uuid)
    refused = await rig.record(container)
    assert refused.refusals["one"] == [f"host port {port}/tcp is in use on the machine"]
    rig.world.taken_ports.clear()
    monkeypatch.setattr(machine, "REFUSED_S", 0)
    await rig.agent.registration.beat(reconciled=True)
    await rig.placing.place(ORG, container.uuid)
    assert not await rig.hand_over()
    assert (await rig.record(container)).status is Status.RUNNING


async def test_a_port_that_somebody_listens_on_is_known_before_anything_is_pulled(
    rig: NodeRig,
) -> None:
    image = await rig.image()
    with socket.create_server(("127.0.0.1", 0)) as foreign:
        port = foreign.getsockname()[1]
        wanted = [PortSpec(internal=80, host=port)]
        placed_before = await rig.run(image, ports=wanted)
        assert not await rig.hand_over()
        assert (await rig.record(placed_before)).status is Status.REQUESTED
        assert not rig.world.pulls
        await rig.agent.registration.beat(reconciled=True)
        later = await rig.run(image, ports=wanted)
        assert "is in use on the machine" in str(later.refusals)
    await rig.agent.registration.beat(reconciled=True)
    assert f"{port}/tcp" not in (await rig.node()).ports_in_use


async def test_ports_that_are_leased_are_not_told_twice(rig: NodeRig) -> None:
    """Or they would not be free together with their lease."""
    with socket.create_server(("127.0.0.1", 0)) as ours:
        container = await rig.run(ports=[PortSpec(internal=80, host=ours.getsockname()[1])])
        await rig.agent.registration.beat(reconciled=True)
        assert container.status is Status.PLACED
        node = await rig.node()
        assert f"{ours.getsockname()[1]}/tcp" not in node.ports_in_use


async def test_an_adopted_container_whose_port_is_taken_by_now_gets_another(rig: NodeRig) -> None:
    container = await rig.run(ports=[PortSpec(internal=80)])
    node = engine_plan.NodeIdentity(rig.settings.installation, rig.agent.uuid)
    taken = [PortBinding(internal=80, host=41003, address="127.0.0.1")]
    await rig.engine.create(engine_plan.plan(container, taken, node=node, simulated=True))
    rig.world.taken_ports = {41003}
    assert not await rig.hand_over()
    assert (await rig.record(container)).status is Status.RUNNING


# --- what nobody can help ---------------------------------------------------------------------


@pytest.mark.parametrize("step", ["create", "start"])
async def test_what_the_engine_refuses_fails_with_its_words(rig: NodeRig, step: str) -> None:
    rig.world.refusals[step] = "no runtime called cuda"
    container = await rig.run()
    assert not await rig.hand_over()
    failed = await rig.record(container)
    assert failed.status is Status.FAILED
    assert "no runtime called cuda" in (failed.reason or "")
    assert not rig.world.containers


async def test_a_secret_that_is_gone_fails_the_container_with_the_reason(rig: NodeRig) -> None:
    container = await rig.run(await rig.image(secret="no-such-secret"))
    assert not await rig.hand_over()
    failed = await rig.record(container)
    assert failed.status is Status.FAILED
    assert "no-such-secret" in (failed.reason or "")


async def test_an_image_without_a_secret_is_pulled_with_that_of_its_entry_in_the_catalogue(
    rig: NodeRig,
) -> None:
    image = await rig.image()
    container = await rig.run(image)
    entry = made.catalog_entry(org=image.org, reference=reference_of(image), secret="entry-s-own")
    await rig.store.insert(entry)
    assert not await rig.hand_over()
    assert "entry-s-own" in ((await rig.record(container)).reason or "")


async def test_an_agent_that_lost_its_launch_meanwhile_fails_nobody(rig: NodeRig) -> None:
    """It was thought dead during its pull; the container runs elsewhere when the pull fails."""
    rig.world.pull = "stalls"
    container = await rig.run(await rig.image())
    ((verb, order),) = rig.orders()
    launching_it = asyncio.create_task(rig.carry_out(verb, order, last_try=True))
    await rig.until(container, Status.PULLING)
    moved = await moved_elsewhere(rig, container)
    with pytest.raises(Fenced):
        await launching_it
    assert (await rig.record(container)).revision == moved.revision


async def test_an_engine_that_is_away_fails_no_container(rig: NodeRig) -> None:
    container = await rig.run()
    rig.world.down = True
    (error,) = await rig.hand_over(last_try=True)
    assert error.code == "engine_unavailable"
    rig.world.down = False
    assert (await rig.record(container)).status is Status.PLACED
    await rig.remind()
    await rig.hand_over()
    assert (await rig.record(container)).status is Status.RUNNING


async def test_a_container_called_off_while_it_starts_is_not_left_running(rig: NodeRig) -> None:
    container = await rig.run()
    ((verb, order),) = rig.orders()
    await asyncio.gather(
        rig.carry_out(verb, order), rig.containers.stop(rig.caller, container.uuid)
    )
    await rig.hand_over()
    assert (await rig.record(container)).status is Status.STOPPED
    assert all(made.status != "running" for made in rig.world.containers.values())
    assert rig.sent.kinds(container.uuid)[-1] == "stopped"


async def moved_elsewhere(rig: NodeRig, container: Container) -> Container:
    """As the placement does it: whoever reports progress meanwhile only makes it look again."""
    while True:
        current = await rig.record(container)
        elsewhere = {"node": "another", "fence": current.fence + 1}
        with suppress(LostRace):
            return await rig.store.change(
                current, elsewhere, at=current.updated_at, status=Status.RUNNING
            )
