"""Deployments whose number of replicas follows a rule, over a real store."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pipeline.adapters.store.readings import Readings, Source
from pipeline.adapters.store.store import Store
from pipeline.deployments.autoscaler import FRESH_S, SILENT, Autoscaler
from pipeline.errors import Conflict, InvalidInput
from pipeline.records.kernel import Change
from schemas.deployment import (
    AutoscalePolicy,
    Deployment,
    DeploymentEdit,
    Metric,
    ScalingBehavior,
    ScalingSchedule,
    ScalingTarget,
)
from schemas.states import DeploymentStatus as Status
from tests.support.engines.deploying import Deploying

BY_LOAD = AutoscalePolicy(targets=[ScalingTarget(metric=Metric.CONCURRENCY, value=2)])


async def test_a_rule_is_kept_and_ended_and_keeps_its_owner_from_setting_the_number(
    deploying: Deploying,
) -> None:
    service, caller = deploying.service, deploying.rig.caller
    deployment = await deploying.create(1, autoscale=BY_LOAD)
    assert (await deploying.record(deployment)).autoscale == BY_LOAD
    same = DeploymentEdit(autoscale=BY_LOAD)
    edited = await service.edit(caller, deployment.uuid, same)
    assert edited.revision == deployment.revision
    with pytest.raises(Conflict, match="scaled automatically"):
        await service.scale(caller, deployment.uuid, 3)
    to_zero = BY_LOAD.model_copy(update={"scale_to_zero": True})
    resting = await service.edit(caller, deployment.uuid, DeploymentEdit(autoscale=to_zero))
    assert resting.autoscale == to_zero
    assert resting.idle_at is not None, "what may rest has its time from the first moment on"
    ended = await service.edit(caller, deployment.uuid, DeploymentEdit(autoscale=AutoscalePolicy()))
    assert ended.autoscale is None
    assert (await service.scale(caller, deployment.uuid, 3)).replicas == 3


async def test_a_schedule_that_cannot_be_read_is_refused_and_changes_nothing(
    deploying: Deploying,
) -> None:
    nowhere = ScalingSchedule(timezone="Mars/Olympus", start="0 8 * * *", end="0 18 * * *")
    with pytest.raises(InvalidInput, match="no time zone"):
        await deploying.create(1, autoscale=AutoscalePolicy(schedules=[nowhere]))
    deployment = await deploying.create(1)
    edit = DeploymentEdit(autoscale=AutoscalePolicy(schedules=[nowhere]))
    with pytest.raises(InvalidInput, match="no time zone"):
        await deploying.service.edit(deploying.rig.caller, deployment.uuid, edit)
    assert (await deploying.record(deployment)).autoscale is None


# Over time


def calls(under_way: float, **more: Any) -> dict[str, Any]:
    return {"under_way": under_way, "queued": 0, "rate": 0, "latencies": [], **more}


def autoscaler(deploying: Deploying, readings: Readings) -> Autoscaler:
    return Autoscaler(deploying.rig.records, readings, samples_interval_s=1)


def scaled(deploying: Deploying, deployment: Deployment) -> list[dict[str, Any]]:
    """What the events tell of changes."""
    sent = deploying.rig.sent.messages
    return [
        dict(each.data)
        for each in sent
        if each.subject.endswith(f".{deployment.uuid}.scaled") and "figures" in each.data
    ]


@pytest.fixture
async def readings(store: Store) -> Readings:
    """Of no source so far: those of other tests are no records, and stay in the store."""
    await store.beside("readings").delete_many({})
    return Readings(store)


async def test_the_number_follows_the_sum_of_all_gateways_and_says_why(
    deploying: Deploying, readings: Readings
) -> None:
    deployment = await deploying.deployed(1, autoscale=BY_LOAD)
    scaler = autoscaler(deploying, readings)
    await readings.publish(Source.GATEWAY, "one", {deployment.slug: calls(4)})
    await readings.publish(Source.GATEWAY, "two", {deployment.slug: calls(2)})
    await scaler.sweep()
    record = await deploying.record(deployment)
    assert (record.replicas, record.status) == (3, Status.DEPLOYING)
    assert record.reason == "scaled from 1 to 3: concurrency is 6, its target 2"
    [told] = scaled(deploying, deployment)
    assert (told["before"], told["after"], told["why"]) == (1, 3, "concurrency is 6, its target 2")
    assert told["figures"] == [
        {"metric": "concurrency", "percentile": None, "target": 2, "value": 6, "replicas": 3}
    ]
    assert (await deploying.settled(deployment)).ready == 3
    await scaler.sweep()
    assert (await deploying.record(deployment)).replicas == 3
    look = await scaler.look(record)
    assert look is not None
    assert (look.replicas, look.figures[0].value) == (3, 2)


async def test_two_processes_write_a_change_once(deploying: Deploying, readings: Readings) -> None:
    deployment = await deploying.deployed(1, autoscale=BY_LOAD)
    await readings.publish(Source.GATEWAY, "one", {deployment.slug: calls(8)})
    await asyncio.gather(*(autoscaler(deploying, readings).sweep() for _ in range(4)))
    assert (await deploying.record(deployment)).replicas == 4
    assert len(scaled(deploying, deployment)) == 1


async def test_a_process_that_begins_ends_nothing_before_its_window_is_over(
    deploying: Deploying, readings: Readings
) -> None:
    deployment = await deploying.deployed(1, autoscale=BY_LOAD)
    await readings.publish(Source.GATEWAY, "one", {deployment.slug: calls(8)})
    await autoscaler(deploying, readings).sweep()
    await deploying.settled(deployment)
    await readings.publish(Source.GATEWAY, "one", {})
    scaler, clock = autoscaler(deploying, readings), deploying.rig.clock
    await scaler.sweep()
    clock.skip(299)
    await scaler.sweep()
    assert (await deploying.record(deployment)).replicas == 4
    clock.skip(2)
    await scaler.sweep()
    record = await deploying.record(deployment)
    assert (record.replicas, record.scaling and record.scaling.why) == (
        1,
        "concurrency is 0, its target 2; min_replicas is 1",
    )


async def test_without_a_word_of_a_gateway_nothing_is_ended(
    deploying: Deploying, readings: Readings, store: Store
) -> None:
    policy = BY_LOAD.model_copy(update={"scale_down": ScalingBehavior()})
    deployment = await deploying.deployed(3, autoscale=policy)
    await deploying.service.edit(
        deploying.rig.caller, deployment.uuid, DeploymentEdit(min_replicas=1)
    )
    scaler = autoscaler(deploying, readings)
    await scaler.sweep()
    assert (await deploying.record(deployment)).replicas == 3, "nobody tells"
    await readings.publish(Source.GATEWAY, "one", {})
    await readings.publish(Source.GATEWAY, "two", {})
    await _age(store, "gateway:two", FRESH_S + 1)
    await scaler.sweep()
    assert (await deploying.record(deployment)).replicas == 3, "the second may have calls"
    await _age(store, "gateway:two", SILENT.total_seconds())
    await scaler.sweep()
    assert (await deploying.record(deployment)).replicas == 1


async def test_a_rule_that_cannot_be_followed_holds_up_no_other(
    deploying: Deploying, readings: Readings
) -> None:
    """For instance because this machine knows fewer time zones than another one."""
    nowhere = ScalingSchedule(timezone="Mars/Olympus", start="0 8 * * *", end="0 18 * * *")
    broken = await deploying.deployed(1, name="broken")
    policy = AutoscalePolicy(schedules=[nowhere]).model_dump(mode="json")
    await deploying.rig.records.commit(broken, Change({"autoscale": policy}))
    sound = await deploying.deployed(1, name="sound", autoscale=BY_LOAD)
    await readings.publish(Source.GATEWAY, "one", {sound.slug: calls(4)})
    await autoscaler(deploying, readings).sweep()
    assert (await deploying.record(sound)).replicas == 2


async def test_what_replicas_use_counts_as_long_as_they_answer(
    deploying: Deploying, readings: Readings
) -> None:
    target = ScalingTarget(metric=Metric.GPU, value=50)
    deployment = await deploying.deployed(2, autoscale=AutoscalePolicy(targets=[target]))
    node = (await deploying.containers(deployment))[0].node
    assert node is not None
    uses = {each.uuid: {"gpu": 100.0} for each in await deploying.containers(deployment)}
    await readings.publish(Source.NODE, node, uses | {"another": {"gpu": 5.0}})
    await autoscaler(deploying, readings).sweep()
    assert (await deploying.record(deployment)).replicas == 4


async def test_latencies_of_all_gateways_make_one_percentile(
    deploying: Deploying, readings: Readings
) -> None:
    target = ScalingTarget(metric=Metric.LATENCY, value=100, percentile=75)
    deployment = await deploying.deployed(1, autoscale=AutoscalePolicy(targets=[target]))
    for name, bucket in (("one", 10), ("two", 200)):
        figures = calls(1, latencies=[[bucket, 50]])
        await readings.publish(Source.GATEWAY, name, {deployment.slug: figures})
    await autoscaler(deploying, readings).sweep()
    record = await deploying.record(deployment)
    # Half of the answers took 200 to 208 ms: the 75th percentile is in their middle.
    assert record.scaling is not None
    assert (record.replicas, record.scaling.figures[0].value) == (3, 204)


async def _age(store: Store, id: str, seconds: float) -> None:
    await store.beside("readings").update_one(
        {"_id": id}, [{"$set": {"at": {"$subtract": ["$$NOW", int(seconds * 1000)]}}}]
    )
