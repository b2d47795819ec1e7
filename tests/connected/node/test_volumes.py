"""What containers keep: the next of the name finds it on its node, until somebody ends it."""

from __future__ import annotations

import pytest

from pipeline.containers.engine_plan import volume_name
from pipeline.containers.volumes import kept as kept_by
from pipeline.errors import Conflict, InvalidInput, NotFound
from schemas.container import Container, Volume, VolumeMount
from schemas.states import ContainerStatus as Status
from schemas.states import NodeStatus, VolumeStatus
from tests.support.engines.node_rig import ORG, NodeRig
from tests.support.systems.working import member

DATA = [VolumeMount(path="/data"), VolumeMount(path="/models", read_only=True)]


async def kept(rig: NodeRig, status: VolumeStatus = VolumeStatus.READY) -> list[Volume]:
    return await rig.store.find(Volume, org=ORG, where={"status": status.value})


async def delete(rig: NodeRig, container: Container, *, volumes: bool = False) -> None:
    await rig.containers.delete(rig.caller, container.uuid, volumes=volumes)
    assert not await rig.hand_over()


async def test_the_next_of_the_name_gets_what_the_last_one_kept(rig: NodeRig) -> None:
    first = await rig.up(name="web", volumes=DATA)
    made = rig.world.only()
    assert [each["ReadOnly"] for each in made.spec["HostConfig"]["Mounts"]] == [False, True]
    mounted = made.volumes
    assert sorted(mounted.values()) == ["/data", "/models"]
    await delete(rig, first)
    assert set(rig.world.volumes) == set(mounted)
    second = await rig.up(name="web", volumes=DATA)
    assert rig.world.only().volumes == mounted
    assert {volume.container for volume in await kept(rig)} == {second.uuid}


async def test_a_stop_and_a_start_keep_them(rig: NodeRig) -> None:
    container = await rig.up(name="web", volumes=DATA)
    mounted = rig.world.only().volumes
    await rig.containers.stop(rig.caller, container.uuid)
    await rig.hand_over()
    await rig.containers.start(rig.caller, container.uuid)
    await rig.placing.place(ORG, container.uuid)
    assert not await rig.hand_over()
    assert (await rig.record(container)).status is Status.RUNNING
    assert rig.world.only().volumes == mounted


async def test_they_end_with_their_container_when_that_is_asked_for(rig: NodeRig) -> None:
    container = await rig.up(name="web", volumes=DATA)
    await delete(rig, container, volumes=True)
    assert not rig.world.volumes
    assert not await kept(rig)
    assert len(await kept(rig, VolumeStatus.DELETED)) == 2
    assert not (await rig.record(container)).delete_volumes
    volume = (await kept(rig, VolumeStatus.DELETED))[0]
    assert rig.sent.kinds(volume.uuid) == ["created", "deleting", "deleted"]


async def test_a_worker_that_died_before_it_ordered_their_end_is_made_good(rig: NodeRig) -> None:
    container = await rig.up(name="web", volumes=DATA)
    await delete(rig, container)
    gone = await rig.record(container)
    await rig.store.update(
        Container, gone.uuid, org=ORG, guard={}, update={"$set": {"delete_volumes": True}}
    )
    await rig.remind()
    assert not await rig.hand_over()
    assert not rig.world.volumes
    assert not (await rig.record(container)).delete_volumes


async def test_an_end_that_nobody_was_told_of_is_found_when_the_agent_looks(rig: NodeRig) -> None:
    container = await rig.up(name="web", volumes=DATA)
    await delete(rig, container)
    for volume in await kept(rig):
        await rig.containers.volumes.delete(rig.caller, volume.uuid)
    await rig.agent.volumes.sweep()
    assert not rig.world.volumes


async def test_a_new_one_of_the_name_gets_nothing_of_what_is_ending(rig: NodeRig) -> None:
    container = await rig.up(name="web", volumes=DATA)
    old = set(rig.world.volumes)
    await rig.containers.delete(rig.caller, container.uuid, volumes=True)
    await rig.run(name="web", volumes=DATA)
    await rig.hand_over()
    (new,) = rig.world.containers.values()
    assert not old & set(new.volumes)
    await rig.agent.volumes.sweep()
    assert set(rig.world.volumes) == set(new.volumes)


async def test_what_a_newer_container_has_does_not_end_with_an_older_one(rig: NodeRig) -> None:
    first = await rig.up(name="web", volumes=DATA)
    await delete(rig, first)
    await rig.up(name="web", volumes=DATA)
    await rig.containers.delete(rig.caller, first.uuid, volumes=True)
    assert len(await kept(rig)) == 2


async def test_by_itself_one_ends_only_once_its_container_is_gone(rig: NodeRig) -> None:
    container = await rig.up(name="web", volumes=DATA[:1])
    (volume,) = await kept(rig)
    with pytest.raises(Conflict, match="web"):
        await rig.containers.volumes.delete(rig.caller, volume.uuid)
    await delete(rig, container)
    with pytest.raises(NotFound):
        await rig.containers.volumes.delete(member("other"), volume.uuid)
    await rig.containers.volumes.delete(rig.caller, volume.uuid)
    assert not await rig.hand_over()
    assert not rig.world.volumes


async def test_another_organisation_gets_its_own(rig: NodeRig) -> None:
    container = await rig.up(name="web", volumes=DATA[:1])
    (volume,) = await kept(rig)
    theirs = container.model_copy(update={"org": "other"})
    assert not await kept_by(rig.store, theirs)
    assert (await rig.containers.volumes.claim(theirs, "/data")).uuid != volume.uuid
    assert not (await rig.containers.volumes.list(member("third"))).items


async def test_a_container_without_a_name_keeps_nothing(rig: NodeRig) -> None:
    with pytest.raises(InvalidInput, match="name"):
        await rig.run(volumes=DATA)


async def test_it_returns_to_its_node_and_waits_while_that_is_away(rig: NodeRig) -> None:
    await rig.up(name="web", volumes=DATA[:1])
    await rig.another_node("two")
    node = await rig.node()
    rig.clock.skip(1)
    await rig.store.change(node, {}, at=rig.clock(), status=NodeStatus.LOST)
    waiting = await rig.run(name="later")
    assert waiting.node_name == "two"
    (container,) = await rig.store.find(Container, org=ORG, where={"name": "web"})
    await rig.nodes.sweep()
    await rig.placing.place(ORG, container.uuid)
    found = await rig.record(container)
    assert (found.status, found.refusals["two"]) == (
        Status.REQUESTED,
        ["its volume /data is on one"],
    )
    for _ in range(2):  # one that was lost looks at its containers before it is READY
        await rig.agent.registration.beat(reconciled=True)
    rig.clock.skip(1)
    await rig.placing.place(ORG, container.uuid)
    assert (await rig.record(container)).node_name == "one"


async def test_one_whose_node_was_removed_waits_and_says_so(rig: NodeRig) -> None:
    container = await rig.up(name="web", volumes=DATA[:1])
    await delete(rig, container)
    await rig.another_node("two")
    await rig.store.change(await rig.node(), {}, at=rig.clock(), status=NodeStatus.DELETED)
    found = await rig.run(name="web", volumes=DATA[:1])
    assert found.status is Status.REQUESTED
    assert "its volume /data is on one, which was removed" in (found.reason or "")


async def test_whoever_finds_one_made_elsewhere_meanwhile_goes_there(rig: NodeRig) -> None:
    other = await rig.another_node("two")
    container = await rig.run(name="web", volumes=DATA[:1])
    first, second = (rig.agent, other) if container.node == rig.agent.uuid else (other, rig.agent)
    there = {"node": second.uuid, "node_name": "there"}
    await rig.containers.volumes.claim(container.model_copy(update=there), "/data")
    assert not await rig.hand_over()
    await rig.placing.place(ORG, container.uuid)
    assert not await rig.hand_over()
    found = await rig.record(container)
    assert (found.status, found.node) == (Status.RUNNING, second.uuid)
    assert first.uuid != second.uuid


async def test_a_volume_of_somebody_else_on_the_engine_is_not_used(rig: NodeRig) -> None:
    container = await rig.run(name="web", volumes=DATA[:1])
    volume = await rig.containers.volumes.claim(container, "/data")
    rig.world.volumes[volume_name(volume.uuid)] = {}
    await rig.hand_over(last_try=True)
    found = await rig.record(container)
    assert (found.status, "made by somebody else" in (found.reason or "")) == (Status.FAILED, True)
