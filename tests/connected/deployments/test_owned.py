"""A deployment that belongs to a version of a model: made, called, given up, and ended with it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from pipeline.deployments.service import Deployments
from pipeline.errors import Conflict, NoReplica
from pipeline.records.kernel import Change
from schemas.access import Principal
from schemas.container import Desired, PortSpec, RestartPolicy
from schemas.deployment import Deployment, DeploymentEdit, DeploymentSpec, Owner
from schemas.states import ContainerStatus
from schemas.states import DeploymentStatus as Status
from tests.connected.deployments.test_activation import Waking, waiting, waking
from tests.support.engines.deploying import Deploying
from tests.support.engines.node_rig import ORG
from tests.support.waiting import eventually

__all__ = ["waking"]

OWNER = Owner(model="abcdefghij", version="1.0.0")
Order = Callable[[Deployments, Principal, str], Awaitable[Deployment]]
BY_HAND: dict[str, Order] = {
    "edit": lambda all, who, id: all.edit(who, id, DeploymentEdit(max_replicas=2)),
    "scale": lambda all, who, id: all.scale(who, id, 1),
    "stop": lambda all, who, id: all.stop(who, id),
    "restart": lambda all, who, id: all.restart(who, id),
    "roll back": lambda all, who, id: all.roll_back(who, id),
    "delete": lambda all, who, id: all.delete(who, id),
}


async def owned(deploying: Deploying, *, idle_s: float = 900) -> Deployment:
    ports = [PortSpec(internal=8080)]
    template = await deploying.template(restart=RestartPolicy.NO, ports=ports)
    spec = DeploymentSpec(name="called", template=template, min_replicas=0, idle_s=idle_s)
    made = await deploying.service.create(deploying.rig.caller, spec, owner=OWNER)
    return await deploying.settled(made)


async def woken(waking: Waking, deployment: Deployment) -> None:
    await waking.woken(deployment, waiting(waking, waking.activation(), deployment))


@pytest.mark.parametrize("order", BY_HAND)
async def test_nobody_changes_it_by_hand(deploying: Deploying, order: str) -> None:
    made = await owned(deploying)
    with pytest.raises(Conflict, match="change /api/models/abcdefghij/versions"):
        await BY_HAND[order](deploying.service, deploying.rig.caller, made.uuid)
    assert (await deploying.record(made)).revision == made.revision


async def test_its_replica_is_asked_to_end_and_gets_time_for_it(waking: Waking) -> None:
    deploying, owners, clock = waking.deploying, waking.deploying.owners, waking.rig.clock
    owners.grace_s = 10
    made = await owned(deploying)
    await woken(waking, made)
    (replica,) = await deploying.containers(made)
    owners.is_in_need = False
    ending = await deploying.settled(made)
    assert (ending.status, owners.asked_to_end, owners.told) == (
        Status.DELETING,
        [replica.uuid],
        [],
    )
    assert (await waking.rig.record(replica)).desired is Desired.RUNNING
    clock.skip(11)
    await deploying.reconciler.sweep()
    gone = await deploying.settled(made)
    assert (gone.status, owners.told) == (Status.DELETED, [replica.uuid])
    assert owners.asked_to_end == [replica.uuid]


async def test_a_replica_that_agreed_and_ended_is_not_waited_for(waking: Waking) -> None:
    deploying, owners = waking.deploying, waking.deploying.owners
    owners.grace_s = 10
    made = await owned(deploying)
    await woken(waking, made)
    owners.is_in_need = False
    await deploying.settled(made)
    (replica,) = await deploying.containers(made)
    ended = Change({"exit_code": 0}, status=ContainerStatus.STOPPED)
    await waking.rig.records.commit(await waking.rig.record(replica), ended)
    assert (await deploying.settled(made)).status is Status.DELETED


async def test_what_exits_three_times_is_given_up_and_tried_anew_for_the_next_call(
    waking: Waking,
) -> None:
    deploying = waking.deploying
    made = await owned(deploying)
    wait = waiting(waking, waking.activation(wait_s=600), made)
    await eventually(lambda: waking.is_demanded(made))
    for number in (1, 2, 3):
        await deploying.reconciler.reconcile(ORG, made.uuid)
        await waking.rig.hand_over()  # the one before is removed
        await deploying.reconciler.reconcile(ORG, made.uuid)
        (replica,) = await deploying.containers(made, ContainerStatus.REQUESTED)
        assert replica.replica == number
        await waking.rig.placing.place(ORG, replica.uuid)
        exited = Change({"exit_code": 3}, status=ContainerStatus.FAILED, reason="exited with 3")
        await waking.rig.records.commit(await waking.rig.record(replica), exited)
    given_up = await deploying.settled(made)
    assert (given_up.status, given_up.replicas) == (Status.FAILED, 0)
    assert given_up.fault is not None
    assert given_up.fault.technical == replica.uuid
    assert await deploying.containers(made) == []
    with pytest.raises(NoReplica, match="replica 3: exited with 3"):
        await wait
    await woken(waking, made)
    assert (await deploying.record(made)).status is Status.DEPLOYED


async def test_a_call_while_the_last_replica_ends_gets_the_next_one(waking: Waking) -> None:
    deploying = waking.deploying
    made = await owned(deploying, idle_s=1)
    await woken(waking, made)
    (first,) = await deploying.containers(made)
    deploying.owners.grace_s = 10
    waking.rig.clock.skip(2)
    await deploying.reconciler.sweep_idle()
    await deploying.reconciler.reconcile(ORG, made.uuid)
    assert (await waking.rig.record(first)).drain_until is not None
    wait = waiting(waking, waking.activation(), made)
    await waking.woken(made, wait)
    assert [each.container.replica for each in wait.result()] == [2]


async def test_one_that_is_not_wanted_any_more_when_it_is_made_ends(deploying: Deploying) -> None:
    deploying.owners.is_in_need = False
    made = await owned(deploying)
    assert made.status is Status.DELETED
    looks = (deploying.reconciler.reconcile(ORG, made.uuid) for _ in range(3))
    await asyncio.gather(*looks)
    assert (await deploying.record(made)).revision == made.revision
