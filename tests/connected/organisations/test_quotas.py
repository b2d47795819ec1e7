"""Quotas of containers and GPUs, over a real store and a node in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pipeline.adapters.store.store import Store
from pipeline.containers.service import Containers
from pipeline.errors import QuotaExceeded
from pipeline.organisations.quotas import HOLD, Quotas
from schemas.container import Container, ContainerSpec
from schemas.deployment import DeploymentEdit
from schemas.organisation import Amounts, Organisation
from schemas.organisation import Quotas as Limits
from schemas.states import ContainerStatus, DeploymentStatus
from tests.support.engines.deploying import Deploying
from tests.support.engines.node_rig import ORG, NodeRig, node_rig

STOPPED = ContainerStatus.STOPPED


@pytest.fixture
async def rig(store: Store) -> AsyncIterator[NodeRig]:
    async with node_rig(store, gpus="8xH100-80GB") as rig:
        yield rig


async def limit(rig: NodeRig, **quotas: int) -> Organisation:
    """Of the organisation of the rig, from now on."""
    limits = Limits(**quotas)
    found = await rig.store.find_one(Organisation, org=ORG, where={"slug": ORG})
    if found is None:
        made = Organisation(**rig.records.initial(ORG), slug=ORG, name=ORG, quotas=limits)
        return await rig.store.insert(made)
    values = {"quotas": limits.model_dump()}
    return await rig.store.change(found, values, at=rig.clock())


async def organisation(rig: NodeRig) -> Organisation:
    found = await rig.store.find_one(Organisation, org=ORG, where={"slug": ORG})
    assert found is not None
    return found


async def run(rig: NodeRig, image: str, *, key: str | None = None, **spec: Any) -> Container:
    return await rig.containers.run(rig.caller, ContainerSpec(image=image, **spec), key=key)


async def end(rig: NodeRig, container: Container) -> None:
    """Nobody has placed it yet: it is over at once."""
    assert (await rig.containers.stop(rig.caller, container.uuid)).status is STOPPED


async def test_a_container_too_many_is_refused_with_the_figure_that_was_met(rig: NodeRig) -> None:
    image = (await rig.image()).uuid
    await limit(rig, containers=2, gpus=3)
    first = await run(rig, image, gpus=2)
    with pytest.raises(QuotaExceeded, match="2 of 3 GPUs are in use, and this needs 2 more") as no:
        await run(rig, image, gpus=2)
    assert no.value.facts == {"quota": "gpus", "used": 2, "limit": 3}
    await run(rig, image, gpus=1)
    with pytest.raises(QuotaExceeded, match="2 of 2 containers are in use, and this needs 1"):
        await run(rig, image)
    await end(rig, first)
    again = await run(rig, image, gpus=2)
    with pytest.raises(QuotaExceeded):
        await rig.containers.start(rig.caller, first.uuid)
    await end(rig, again)
    assert (await rig.containers.start(rig.caller, first.uuid)).status is ContainerStatus.REQUESTED
    assert (await organisation(rig)).holds == []


async def test_what_was_accepted_before_a_quota_was_lowered_goes_on(rig: NodeRig) -> None:
    image = (await rig.here(await rig.image())).uuid
    spec = {"image": image, "gpus": 1}
    kept = await rig.containers.run(rig.caller, ContainerSpec(**spec), key="k")
    await limit(rig, containers=0, gpus=0)
    await rig.placing.place(ORG, kept.uuid)
    await rig.hand_over()
    again = await rig.containers.run(rig.caller, ContainerSpec(**spec), key="k")
    assert (again.uuid, again.replayed, again.status) == (kept.uuid, True, ContainerStatus.RUNNING)
    await rig.containers.restart(rig.caller, kept.uuid)
    with pytest.raises(QuotaExceeded, match="1 of 0 GPUs"):
        await run(rig, image, gpus=1)


@pytest.mark.parametrize(("quotas", "passing"), [({"containers": 3}, 3), ({"gpus": 5}, 2)])
async def test_of_creations_at_the_same_time_only_those_pass_for_which_there_is_room(
    rig: NodeRig, quotas: dict[str, int], passing: int
) -> None:
    """Each by a service of its own, as in another process."""
    image = (await rig.image()).uuid
    await limit(rig, **quotas)
    known = rig.containers
    services = [Containers(rig.records, known._images, rig.leases, known.gates) for _ in range(12)]
    asked = ContainerSpec(image=image, gpus=2)
    done = await asyncio.gather(
        *(each.run(rig.caller, asked) for each in services), return_exceptions=True
    )
    made = [each for each in done if isinstance(each, Container)]
    assert all(isinstance(each, Container | QuotaExceeded) for each in done)
    assert len(made) == passing
    assert await rig.store.count(Container, org=ORG) == passing


async def test_the_hold_of_a_process_that_died_counts_until_it_runs_out(rig: NodeRig) -> None:
    image = (await rig.image()).uuid
    await limit(rig, containers=1)
    dying = Quotas(rig.records).admitted(ORG, "somebody-elses", Amounts(containers=1))
    await dying.__aenter__()
    with pytest.raises(QuotaExceeded):
        await run(rig, image)
    rig.clock.skip(HOLD.total_seconds())
    await run(rig, image)
    assert (await organisation(rig)).holds == []


async def test_an_organisation_without_a_quota_writes_nothing_of_it(rig: NodeRig) -> None:
    await limit(rig, archive_bytes=5)
    await run(rig, (await rig.image()).uuid, gpus=4)
    assert (await organisation(rig)).times_held == 0


async def test_replicas_that_meet_the_quota_wait_with_that_reason(rig: NodeRig) -> None:
    deploying = Deploying(rig)
    await limit(rig, gpus=3)
    template = await deploying.template(gpus=2)
    waiting = await deploying.settled(await deploying.create(2, template))
    assert (waiting.status, waiting.ready) == (DeploymentStatus.DEPLOYING, 1)
    assert waiting.reason == (
        "1 of 2 replicas ready: replica 2 2 of 3 GPUs are in use, and this needs 2 more."
    )
    assert len(await deploying.containers(waiting)) == 1
    await deploying.round(waiting)
    assert (await deploying.record(waiting)).revision == waiting.revision
    await limit(rig, gpus=4)
    assert (await deploying.settled(waiting)).status is DeploymentStatus.DEPLOYED


async def test_an_edit_in_place_makes_its_own_room_within_the_quota(rig: NodeRig) -> None:
    deploying = Deploying(rig)
    await limit(rig, gpus=2)
    deployment = await deploying.deployed(
        2, template=await deploying.template(gpus=1), in_place=True
    )
    edited = await deploying.template(gpus=1, env={"VERSION": "2"})
    await deploying.service.edit(rig.caller, deployment.uuid, DeploymentEdit(template=edited))
    settled = await deploying.settled(deployment)
    assert (settled.status, settled.generation) == (DeploymentStatus.DEPLOYED, 2)
