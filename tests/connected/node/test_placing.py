"""Placing: one attempt at a time wins, whatever dies or comes late frees only what is its own."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from pipeline.adapters.store.store import EVERY_ORG, Store
from pipeline.errors import InvalidInput, LostRace, NotFound, StoreUnavailable
from pipeline.placement import line
from pipeline.placement.node_view import NodeView
from pipeline.placement.service import Placement
from pipeline.placement.sweeps import StaleLeases
from pipeline.records.idempotency import new_id
from pipeline.records.kernel import Change, Records
from schemas.container import Container, ContainerSpec, PortSpec
from schemas.image import Needs
from schemas.node import Node
from schemas.states import ContainerStatus as Status
from tests.support.engines.node_rig import ORG, NodeRig, node_rig
from tests.support.processes import any_free
from tests.support.records import gpu, node
from tests.support.systems.working import member


async def requested(rig: NodeRig, **spec: Any) -> Container:
    image = await rig.here(await rig.image())
    return await rig.containers.run(rig.caller, ContainerSpec(image=image.uuid, **spec))


async def held(rig: NodeRig) -> dict[str, str]:
    nodes = await rig.store.find(Node, org=EVERY_ORG, sort=())
    return {gpu: holder for node in nodes for gpu, holder in node.held.items()}


async def test_workers_that_place_the_same_container_side_by_side_lease_once(rig: NodeRig) -> None:
    await rig.store.insert(node("two", gpu("g1"), gpu("g2"), at=rig.clock()))
    for _ in range(5):
        container = await requested(rig, gpus=1)
        done = await asyncio.gather(
            *(rig.placing.place(ORG, container.uuid) for _ in range(6)), return_exceptions=True
        )
        assert all(each is None or isinstance(each, LostRace) for each in done)
        found = await rig.record(container)
        if found.status is Status.REQUESTED:  # each gave way to the other; the sweep asks again
            await rig.placing.place(ORG, container.uuid)
            found = await rig.record(container)
        mine = [gpu for gpu, holder in (await held(rig)).items() if holder == container.uuid]
        if found.status is Status.PLACED:
            assert mine == found.gpus
        else:
            assert not mine


async def test_many_containers_at_once_share_what_is_known_about_nodes(
    rig: NodeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        devices = [gpu(f"{number}-{index}", index=index) for index in range(4)]
        await rig.store.insert(node(f"n{number}", *devices, at=rig.clock()))
    containers = [await requested(rig, gpus=1) for _ in range(20)]
    find, readings = rig.store.find, 0

    async def counting(kind: Any, **query: Any) -> Any:
        nonlocal readings
        readings += kind is Node
        return await find(kind, **query)

    monkeypatch.setattr(rig.store, "find", counting)
    await asyncio.gather(*(rig.placing.place(ORG, each.uuid) for each in containers))
    placed = [await rig.record(each) for each in containers]
    assert [each.status for each in placed].count(Status.PLACED) == 14
    taken = [gpu for each in placed for gpu in each.gpus]
    assert len(set(taken)) == len(taken) == 14
    assert set(await held(rig)) == set(taken)
    assert readings < len(containers)


class Halting(Placement):
    """Stands still between its lease and its record, as a worker that is paused does."""

    leased: asyncio.Event
    go_on: asyncio.Event

    async def _launch(self, *args: Any) -> None:
        self.leased.set()
        await self.go_on.wait()
        await super()._launch(*args)


def halting(rig: NodeRig) -> Halting:
    view = NodeView(rig.store, grace_s=20, clock=rig.clock)
    placing = Halting(
        rig.records, rig.leases, view, rig.containers.gates, node_grace_s=20, patience_s=60
    )
    placing.leased, placing.go_on = asyncio.Event(), asyncio.Event()
    return placing


async def test_a_worker_that_comes_late_frees_nothing_of_the_one_that_was_quicker(
    rig: NodeRig,
) -> None:
    container, late = await requested(rig, gpus=1), halting(rig)
    standing_still = asyncio.create_task(late.place(ORG, container.uuid))
    await late.leased.wait()
    await rig.placing.place(ORG, container.uuid)
    late.go_on.set()
    with pytest.raises(LostRace):
        await standing_still
    found = await rig.record(container)
    assert found.status is Status.PLACED
    assert await held(rig) == {found.gpus[0]: container.uuid}
    assert (await rig.node()).leases[container.uuid].fence == found.fence


async def test_what_a_worker_that_died_leased_is_used_by_the_next_attempt(store: Store) -> None:
    async with node_rig(store, gpus="1xH100-80GB") as rig:
        container, dying = await requested(rig, gpus=1), halting(rig)
        standing_still = asyncio.create_task(dying.place(ORG, container.uuid))
        await dying.leased.wait()
        standing_still.cancel()
        await asyncio.wait([standing_still])
        assert len(await held(rig)) == 1
        await rig.placing.place(ORG, container.uuid)
        found = await rig.record(container)
        assert found.status is Status.PLACED
        assert (await rig.node()).leases[container.uuid].fence == found.fence


async def test_a_container_called_off_while_it_is_placed_holds_nothing(rig: NodeRig) -> None:
    container, late = await requested(rig, gpus=1), halting(rig)
    standing_still = asyncio.create_task(late.place(ORG, container.uuid))
    await late.leased.wait()
    await rig.containers.delete(rig.caller, container.uuid)
    late.go_on.set()
    with pytest.raises(LostRace):
        await standing_still
    assert not await held(rig)


# --- leftovers --------------------------------------------------------------------------------


@pytest.fixture
def sweep(rig: NodeRig) -> StaleLeases:
    return StaleLeases(rig.records, rig.leases, age_s=60)


async def test_the_lease_of_a_container_that_ended_in_a_crash_is_freed(
    rig: NodeRig, sweep: StaleLeases
) -> None:
    container = await rig.up(gpus=1)
    await rig.store.change(await rig.record(container), {}, at=rig.clock(), status=Status.FAILED)
    assert await sweep.sweep() == 0, "whoever ended it may be about to free it"
    rig.clock.skip(61)
    assert await sweep.sweep() == 1
    assert not await held(rig)
    assert await sweep.sweep() == 0


async def test_the_lease_that_an_attempt_left_on_another_node_is_freed(
    rig: NodeRig, sweep: StaleLeases
) -> None:
    container = await rig.up(gpus=1)
    other = await rig.store.insert(node("two", gpu("g1"), at=rig.clock()))
    assert await rig.leases.acquire(
        other, container=container.uuid, fence=container.fence, gpus=["g1"]
    )
    rig.clock.skip(61)
    assert await sweep.sweep() == 1
    assert await held(rig) == {container.gpus[0]: container.uuid}


async def test_leases_in_use_are_never_freed(rig: NodeRig, sweep: StaleLeases) -> None:
    placed = await rig.run(gpus=1)
    running = await rig.up(gpus=1)
    rig.clock.skip(3600)
    assert await sweep.sweep() == 0
    assert set((await held(rig)).values()) == {placed.uuid, running.uuid}


# --- what cannot be placed --------------------------------------------------------------------


async def test_a_driver_that_is_too_old_is_refused_before_any_pull_with_reasons_per_node(
    store: Store,
) -> None:
    async with node_rig(store, simulated_driver="470.57.02", simulated_cuda="11.4") as rig:
        image = await rig.image(needs=Needs(gpus=1, cuda="12.4", driver="550"))
        container = await rig.run(image)
        assert container.status is Status.FAILED
        reasons = container.refusals["one"]
        assert any("470.57.02" in reason for reason in reasons)
        assert any("CUDA 12.4" in reason for reason in reasons)
        assert not rig.orders()
        assert not rig.world.pulls
        assert not await held(rig)


async def test_a_request_that_makes_no_sense_fails_with_its_reason(rig: NodeRig) -> None:
    image = await rig.image(needs=Needs(gpus=1, cuda="newest"))
    container = await rig.run(image)
    assert container.status is Status.FAILED
    assert "'newest'" in (container.reason or "")


async def test_what_waits_for_a_gpu_says_so_once_and_is_placed_when_one_is_free(
    store: Store,
) -> None:
    async with node_rig(store, gpus="1xH100-80GB") as rig:
        first = await rig.up(gpus=1)
        waiting = await rig.run(gpus=1)
        assert (waiting.status, list(waiting.refusals)) == (Status.REQUESTED, ["one"])
        for _ in range(3):
            await rig.placing.place(ORG, waiting.uuid)
        assert rig.sent.kinds(waiting.uuid) == ["requested", "waiting"]
        await rig.containers.delete(rig.caller, first.uuid)
        await rig.hand_over()
        await rig.placing.place(ORG, waiting.uuid)
        placed = await rig.record(waiting)
        assert (placed.status, placed.refusals) == (Status.PLACED, {})


async def test_everybody_who_waits_is_reminded_in_turn(
    rig: NodeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.containers.changes.REMINDED", 2)
    waiting = [await rig.run(gpus=9) for _ in range(1)] + [await rig.run(gpus=2) for _ in range(4)]
    assert [c.status for c in waiting].count(Status.REQUESTED) == 3
    reminded: set[str] = set()
    for _ in range(2):
        rig.sent.messages.clear()
        await rig.remind()
        reminded |= {
            message.data["id"]
            for message in rig.sent.messages
            if message.type == "modelyard.cmd.container.place"
        }
    assert len(reminded) == 3


async def test_who_joins_the_memory_of_another_runs_beside_it_once_that_runs(rig: NodeRig) -> None:
    await rig.store.insert(node("two", gpu("g1"), at=rig.clock()))
    donor = await rig.run(ipc="shareable", name="donor", node="one")
    joining = await rig.run(ipc_with="donor")
    assert joining.status is Status.REQUESTED
    assert "waits for donor" in (joining.reason or "")
    await rig.hand_over()
    await rig.placing.place(ORG, joining.uuid)
    await rig.hand_over()
    found = await rig.record(joining)
    assert (found.status, found.node) == (Status.RUNNING, rig.agent.uuid)
    made = next(m for m in rig.world.containers.values() if joining.uuid in m.name)
    name = next(m.name for m in rig.world.containers.values() if donor.uuid in m.name)
    assert made.spec["HostConfig"]["IpcMode"] == f"container:{name}"


async def test_memory_is_joined_only_where_it_is_shared_by_the_same_organisation(
    rig: NodeRig,
) -> None:
    await rig.up(name="private")
    with pytest.raises(InvalidInput, match="does not share"):
        await rig.run(ipc_with="private")
    await rig.up(name="shared", ipc="shareable")
    image = await rig.image(org="other")
    asked = ContainerSpec(image=image.uuid, ipc_with="shared")
    with pytest.raises(NotFound):
        await rig.containers.run(member("other"), asked)


async def test_a_superseded_image_is_run_by_its_own_organisation_only(rig: NodeRig) -> None:
    image = await rig.image(name="model", superseded_by=new_id())
    assert image.digest is not None
    for called in (image.uuid, image.uuid[:8], f"model@{image.digest}", image.digest):
        with pytest.raises(NotFound):
            await rig.containers.run(member("other"), ContainerSpec(image=called))
        run = await rig.containers.run(rig.caller, ContainerSpec(image=called))
        assert run.image == image.uuid
    for called in (image.reference, image.pinned):
        with pytest.raises(NotFound):
            await rig.containers.run(member("other"), ContainerSpec(image=called))


async def test_the_second_of_two_with_the_same_host_port_waits_until_it_is_free(
    rig: NodeRig,
) -> None:
    port = any_free(random.Random())
    ports = [PortSpec(internal=80, host=port)]
    first, second = await rig.up(ports=ports), await rig.run(ports=ports)
    assert second.status is Status.REQUESTED
    assert second.refusals["one"] == [f"host port {port}/tcp is in use by another container"]
    await rig.containers.stop(rig.caller, first.uuid)
    await rig.hand_over()
    await rig.placing.place(ORG, second.uuid)
    assert (await rig.record(second)).status is Status.PLACED


async def test_a_container_has_its_own_grace_to_end(rig: NodeRig) -> None:
    container = await rig.up(stop_grace_s=7)
    await rig.containers.stop(rig.caller, container.uuid)
    await rig.hand_over()
    (stop,) = [each for each in rig.world.seen if each.path.endswith("/stop")]
    assert stop.query["t"] == "7"


async def test_those_behind_a_batch_are_placed_later_when_the_store_left_meanwhile(
    rig: NodeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "MOST", 2)
    await rig.store.insert(node("two", *(gpu(f"g{n}") for n in range(4)), at=rig.clock()))
    asked, *waiting = [await requested(rig, gpus=1) for _ in range(4)]
    for each in waiting:
        await rig.records.commit(each, Change({"queue_position": 1}))
    write_all, calls = Records.write_all, 0

    async def leaving(*args: Any, **values: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise StoreUnavailable("It left.")
        return await write_all(*args, **values)

    monkeypatch.setattr(Records, "write_all", leaving)
    await rig.placing.place(ORG, asked.uuid)
    left = waiting[2]
    assert calls == 2
    assert (await rig.record(left)).status is Status.REQUESTED
    await rig.placing.place(ORG, left.uuid)
    assert (await rig.record(left)).status is Status.PLACED
    assert sorted((await held(rig)).values()) == sorted(each.uuid for each in (asked, *waiting))
