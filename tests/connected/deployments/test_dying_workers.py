"""A worker that dies at any write of a look, before or after it could tell of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import count

import pytest

from pipeline.adapters.store.store import KINDS
from pipeline.records.kernel import Records
from pipeline.records.messages import Outbox
from schemas.base import Record
from schemas.container import Container
from schemas.deployment import Deployment, DeploymentEdit
from schemas.states import ContainerStatus
from schemas.states import DeploymentStatus as Status
from tests.support.engines.deploying import Deploying
from tests.support.engines.freed import nothing_is_leased
from tests.support.engines.node_rig import ORG

Asked = Callable[[Deploying, str], Awaitable[Deployment]]


class Dying(Outbox):
    """Its process dies at the `writes`-th write: what was written then is told, or it is not."""

    def __init__(self, whole: Outbox, writes: int, *, told: bool) -> None:
        super().__init__(whole._store, whole._bus)
        self._left = writes
        self._told = told

    async def send(self, record: Record) -> bool:
        self._left -= 1
        if self._left == 0 and not self._told:
            raise asyncio.CancelledError
        sent = await super().send(record)
        if self._left == 0:
            raise asyncio.CancelledError
        return sent


async def created(deploying: Deploying, name: str) -> Deployment:
    return await deploying.create(2, name=name)


async def edited(deploying: Deploying, name: str) -> Deployment:
    made = await deploying.deployed(2, name=name)
    template = await deploying.template(env={"V": "2"})
    edit = DeploymentEdit(template=template)
    return await deploying.service.edit(deploying.rig.caller, made.uuid, edit)


async def scaled_down(deploying: Deploying, name: str) -> Deployment:
    made = await deploying.deployed(3, name=name)
    edit = DeploymentEdit(min_replicas=1)
    await deploying.service.edit(deploying.rig.caller, made.uuid, edit)
    return await deploying.service.scale(deploying.rig.caller, made.uuid, 1)


async def deleted(deploying: Deploying, name: str) -> Deployment:
    made = await deploying.deployed(2, name=name)
    return await deploying.service.delete(deploying.rig.caller, made.uuid)


@pytest.mark.parametrize("told", [True, False], ids=["told", "untold"])
@pytest.mark.parametrize(
    ("ask", "status", "env", "left", "ever"),
    [
        (created, Status.DEPLOYED, {}, 2, 2),
        (edited, Status.DEPLOYED, {"V": "2"}, 2, 4),
        (scaled_down, Status.DEPLOYED, {}, 1, 3),
        (deleted, Status.DELETED, {}, 0, 2),
    ],
    ids=["create", "rolling edit", "scale down", "delete"],
)
async def test_it_leaves_nothing_double_and_another_one_ends_the_work(
    deploying: Deploying,
    ask: Asked,
    status: Status,
    env: dict[str, str],
    left: int,
    ever: int,
    told: bool,
) -> None:
    for writes in count(1):
        deployment = await ask(deploying, f"model-{writes}")
        has_died = await dies(deploying, deployment, writes, told=told)
        settled = await deploying.settled(deployment)
        replicas = await deploying.containers(deployment)
        made = await deploying.rig.store.find(
            Container, org=ORG, where={"deployment": deployment.uuid}
        )
        assert (settled.status, len(made)) == (status, ever), f"died at write {writes}"
        assert [each.status for each in replicas] == [ContainerStatus.RUNNING] * left
        assert [each.spec.env for each in replicas] == [env] * left
        if not has_died:
            assert writes > left + 1, "each replica and the deployment itself is a write"
            break
        await deploying.service.delete(deploying.rig.caller, deployment.uuid)
        await deploying.settled(deployment)
    await deploying.service.delete(deploying.rig.caller, deployment.uuid)
    await deploying.settled(deployment)
    await nothing_is_leased(deploying.rig)


async def dies(deploying: Deploying, deployment: Deployment, writes: int, *, told: bool) -> bool:
    """Whether it came so far. What was not told is told by the sweep of another worker."""
    rig = deploying.rig
    dying = Dying(rig.outbox, writes, told=told)
    whole = rig.containers._records, deploying.reconciler
    records = Records(rig.store, dying, rig.clock)
    rig.containers._records, deploying.reconciler = records, deploying.reconciler_over(records)
    try:
        await deploying.settled(deployment)
    except asyncio.CancelledError:
        return True
    finally:
        rig.containers._records, deploying.reconciler = whole
        await dying.close()
        await rig.outbox.sweep(KINDS, rig.clock() + timedelta(seconds=1))
    return False
