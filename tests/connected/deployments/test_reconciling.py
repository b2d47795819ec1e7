"""Deployments and their containers, over a real store and a node in memory."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pipeline.deployments.decision import CRASHES
from pipeline.errors import AlreadyExists, Conflict, InvalidInput, NotFound
from pipeline.records.kernel import Change
from pipeline.telemetry import caused_by
from schemas.container import Container, ContainerSpec, Desired, VolumeMount
from schemas.deployment import DeploymentEdit
from schemas.states import ContainerStatus, ImageStatus
from schemas.states import DeploymentStatus as Status
from tests.support.engines.deploying import Deploying
from tests.support.engines.freed import nothing_is_leased
from tests.support.engines.node_rig import ORG

RUNNING = ContainerStatus.RUNNING


async def test_replicas_are_made_placed_and_counted(deploying: Deploying) -> None:
    deployment = await deploying.deployed(2)
    replicas = await deploying.containers(deployment, RUNNING)
    assert (deployment.status, deployment.ready) == (Status.DEPLOYED, 2)
    assert [each.replica for each in replicas] == [1, 2]
    assert deploying.rig.sent.kinds(deployment.uuid) == ["created", "deploying", "deployed"]


async def test_a_repeat_of_a_look_changes_nothing_and_makes_nothing(deploying: Deploying) -> None:
    deployment = await deploying.create(3)
    looks = (deploying.reconciler.reconcile(ORG, deployment.uuid) for _ in range(6))
    await asyncio.gather(*looks)
    settled = await deploying.settled(deployment)
    assert len(await deploying.containers(deployment)) == 3
    await deploying.round(deployment)
    assert (await deploying.record(deployment)).revision == settled.revision


async def test_a_replica_that_somebody_deletes_is_made_anew(deploying: Deploying) -> None:
    deployment = await deploying.deployed(2)
    first, second = await deploying.containers(deployment)
    await deploying.rig.containers.delete(deploying.rig.caller, first.uuid)
    again = await deploying.settled(deployment)
    replicas = await deploying.containers(deployment, RUNNING)
    assert [each.replica for each in replicas] == [2, 3]
    assert replicas[0].uuid == second.uuid
    assert again.status is Status.DEPLOYED


async def test_what_follows_from_a_command_names_it_also_after_a_sweep(
    deploying: Deploying,
) -> None:
    with caused_by("created"):
        deployment = await deploying.create(2)
    await deploying.settled(deployment)
    (old, *_) = await deploying.containers(deployment)
    edit = DeploymentEdit(template=await deploying.template(env={"VERSION": "2"}))
    with caused_by("edited"):
        await deploying.service.edit(deploying.rig.caller, deployment.uuid, edit)
    del deploying.rig.sent.messages[:]
    with caused_by("created"):  # a hint that comes late
        await deploying.reconciler.reconcile(ORG, deployment.uuid)
    await deploying.settled(deployment)
    assert "deleted" in deploying.rig.sent.kinds(old.uuid)
    assert await deploying.containers(deployment, RUNNING)
    told = [each for each in deploying.rig.sent.messages if ".container." in each.subject]
    assert {each.causation_id for each in told} == {"edited"}


async def test_an_edit_rolls_and_never_has_fewer_ready_than_wanted(deploying: Deploying) -> None:
    deployment = await deploying.deployed(2)
    edit = DeploymentEdit(template=await deploying.template(env={"VERSION": "2"}))
    edited = await deploying.service.edit(deploying.rig.caller, deployment.uuid, edit)
    assert (edited.status, edited.generation) == (Status.DEPLOYING, 2)
    for _ in range(10):
        await deploying.round(deployment)
        assert len(await deploying.containers(deployment, RUNNING)) >= 2
    settled = await deploying.settled(deployment)
    replicas = await deploying.containers(deployment)
    assert settled.status is Status.DEPLOYED
    assert [each.spec.env for each in replicas] == [{"VERSION": "2"}] * 2


async def test_a_template_whose_replicas_crash_is_rolled_back(deploying: Deploying) -> None:
    deployment = await deploying.deployed(1)
    edit = DeploymentEdit(template=await deploying.template(env={"VERSION": "bad"}))
    await deploying.service.edit(deploying.rig.caller, deployment.uuid, edit)
    await deploying.reconciler.reconcile(ORG, deployment.uuid)
    _, bad = await deploying.containers(deployment)
    await deploying.rig.records.commit(
        bad, Change({"restarts": CRASHES}, status=ContainerStatus.PLACED)
    )
    placed = await deploying.rig.record(bad)
    await deploying.rig.records.commit(
        placed, Change(status=ContainerStatus.RESTARTING, reason="exited with code 1")
    )
    settled = await deploying.settled(deployment)
    assert (settled.status, settled.generation) == (Status.DEPLOYED, 1)
    assert settled.reason is not None
    assert settled.reason.startswith("rolled back from generation 2 to 1: replica 2: exited with")
    assert [each.replica for each in await deploying.containers(deployment)] == [1]
    assert "rolled-back" in deploying.rig.sent.kinds(deployment.uuid)


async def test_whose_name_is_taken_gets_another_one_and_blames_no_template(
    deploying: Deploying,
) -> None:
    deployment = await deploying.create(1)
    image = await deploying.rig.here(await deploying.rig.image())
    await deploying.rig.run(image, name=f"{deployment.name}-1-{deployment.uuid[:8]}")
    settled = await deploying.settled(deployment)
    assert (settled.status, settled.blame) == (Status.DEPLOYED, None)
    assert [each.replica for each in await deploying.containers(deployment, RUNNING)] == [2]


async def test_an_image_that_is_gone_fails_the_deployment_in_words(deploying: Deploying) -> None:
    image = await deploying.rig.here(await deploying.rig.image())
    deployment = await deploying.create(1, await deploying.template(image))
    await deploying.rig.records.commit(image, Change(status=ImageStatus.DELETED))
    await deploying.reconciler.reconcile(ORG, deployment.uuid)
    failed = await deploying.record(deployment)
    assert failed.status is Status.FAILED
    assert "There is no image" in str(failed.reason)


async def test_an_image_stays_while_a_deployment_is_made_of_it(deploying: Deploying) -> None:
    """Also while it is stopped and has no container."""
    rig, caller = deploying.rig, deploying.rig.caller
    image = await rig.here(await rig.image())
    deployment = await deploying.deployed(1, template=await deploying.template(image))
    await deploying.service.stop(caller, deployment.uuid)
    await deploying.settled(deployment)
    images = rig.containers._images
    with pytest.raises(Conflict, match="Deployments still use this image: model"):
        await images.delete(caller, image.uuid)
    await deploying.service.delete(caller, deployment.uuid)
    await deploying.settled(deployment)
    assert (await images.delete(caller, image.uuid)).status is ImageStatus.DELETED


async def test_scaling_stopping_starting_and_deleting(deploying: Deploying) -> None:
    service, caller = deploying.service, deploying.rig.caller
    deployment = await deploying.deployed(1)
    await service.scale(caller, deployment.uuid, 3)
    assert (await deploying.settled(deployment)).ready == 3
    await service.stop(caller, deployment.uuid)
    stopped = await deploying.settled(deployment)
    assert (stopped.status, stopped.reason, stopped.ready) == (Status.SCALED_DOWN, None, 0)
    assert await deploying.containers(deployment) == []
    await service.start(caller, deployment.uuid)
    assert (await deploying.settled(deployment)).ready == 3
    await service.delete(caller, deployment.uuid)
    with pytest.raises(Conflict, match="is being deleted"):
        await service.scale(caller, deployment.uuid, 1)
    assert (await deploying.settled(deployment)).status is Status.DELETED
    assert await deploying.containers(deployment) == []
    await nothing_is_leased(deploying.rig)
    with pytest.raises(NotFound):
        await service.get(caller, deployment.uuid)
    assert (await service.delete(caller, deployment.uuid)).status is Status.DELETED


async def test_what_a_slow_worker_makes_does_not_outlive_the_deletion(
    deploying: Deploying, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = await deploying.create(1)
    containers, run = deploying.rig.containers, deploying.rig.containers.run
    begun, goes_on = asyncio.Event(), asyncio.Event()

    async def run_late(*given: Any, **options: Any) -> Container:
        begun.set()
        await goes_on.wait()
        return await run(*given, **options)

    monkeypatch.setattr(containers, "run", run_late)
    slow = asyncio.create_task(deploying.reconciler.reconcile(ORG, deployment.uuid))
    await begun.wait()
    monkeypatch.undo()
    await deploying.service.delete(deploying.rig.caller, deployment.uuid)
    deleted = await deploying.settled(deployment)
    goes_on.set()
    await slow
    assert deleted.status is Status.DELETED
    assert await deploying.containers(deployment) == []


async def test_a_container_that_is_made_after_the_deletion_ends_with_its_first_hint(
    deploying: Deploying,
) -> None:
    rig, deployment = deploying.rig, await deploying.deployed(1)
    image = await rig.here(await rig.image())
    await deploying.service.delete(rig.caller, deployment.uuid)
    await deploying.settled(deployment)
    late = await rig.containers.run(
        rig.caller, ContainerSpec(image=image.uuid), replica_of=(deployment.uuid, 7)
    )
    await deploying.reconciler.reconcile(ORG, deployment.uuid)
    assert (await rig.record(late)).desired is Desired.DELETED


async def test_a_replica_that_is_to_end_finishes_its_calls_first(deploying: Deploying) -> None:
    rig = deploying.rig
    deployment = await deploying.deployed(2, drain_s=60)
    await deploying.service.stop(rig.caller, deployment.uuid)
    await deploying.settled(deployment)
    replicas = await deploying.containers(deployment, RUNNING)
    assert len(replicas) == 2
    assert all(each.drain_until is not None for each in replicas)
    rig.clock.skip(61)
    await deploying.reconciler.sweep()
    await deploying.settled(deployment)
    assert await deploying.containers(deployment) == []


async def test_a_roll_back_by_hand_and_a_restart(deploying: Deploying) -> None:
    service, caller = deploying.service, deploying.rig.caller
    deployment = await deploying.deployed(1)
    edit = DeploymentEdit(template=await deploying.template(env={"VERSION": "2"}))
    await service.edit(caller, deployment.uuid, edit)
    await deploying.settled(deployment)
    await service.roll_back(caller, deployment.uuid)
    back = await deploying.settled(deployment)
    assert (back.generation, [each.generation for each in back.history]) == (1, [2])
    (before,) = await deploying.containers(deployment)
    await service.restart(caller, deployment.uuid)
    again = await deploying.settled(deployment)
    (after,) = await deploying.containers(deployment)
    assert after.uuid != before.uuid
    assert (after.spec, again.status) == (
        before.spec.model_copy(update={"name": after.name}),
        Status.DEPLOYED,
    )
    with pytest.raises(NotFound, match="does not remember generation 9"):
        await service.roll_back(caller, deployment.uuid, 9)


async def test_an_order_that_is_delivered_again_has_one_effect(deploying: Deploying) -> None:
    service, caller = deploying.service, deploying.rig.caller
    deployment = await deploying.deployed(1)
    edit = DeploymentEdit(template=await deploying.template(env={"VERSION": "2"}))
    await service.edit(caller, deployment.uuid, edit)
    await deploying.settled(deployment)
    for _ in range(2):
        back = await service.roll_back(caller, deployment.uuid, key="a")
        assert back.generation == 1
    for _ in range(2):
        again = await service.restart(caller, deployment.uuid, key="b")
        assert again.generation == 3
    back = await service.roll_back(caller, deployment.uuid, key="a")
    assert (back.generation, back.orders) == (3, ["b", "a"])
    assert (await service.roll_back(caller, deployment.uuid, key="c")).generation == 1


async def test_names_are_unique_bounds_ordered_and_requests_idempotent(
    deploying: Deploying,
) -> None:
    service, caller = deploying.service, deploying.rig.caller
    deployment = await deploying.create(1)
    with pytest.raises(AlreadyExists, match="named model exists already"):
        await deploying.create(1)
    with pytest.raises(InvalidInput, match="min_replicas 11 is more than max_replicas 10"):
        await service.edit(caller, deployment.uuid, DeploymentEdit(min_replicas=11))
    with pytest.raises(InvalidInput, match="not within 1 and 10"):
        await service.scale(caller, deployment.uuid, 11)
    same = await service.scale(caller, deployment.uuid, 1)
    assert same.revision == deployment.revision


async def test_each_replica_keeps_its_own_and_what_it_kept_ends_with_it(
    deploying: Deploying,
) -> None:
    rig, spec = deploying.rig, await deploying.template(volumes=[VolumeMount(path="/data")])
    deployment = await deploying.deployed(2, template=spec)
    first, second = rig.world.containers.values()
    assert len(set(first.volumes) | set(second.volumes)) == 2
    fewer = DeploymentEdit(min_replicas=1, max_replicas=1)
    await deploying.service.edit(rig.caller, deployment.uuid, fewer)
    await deploying.settled(deployment)
    assert set(rig.world.volumes) == set(rig.world.only().volumes)
