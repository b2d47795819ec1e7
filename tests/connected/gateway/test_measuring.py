"""A real HAProxy's figures, from calls to what workers read of them."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from pipeline.adapters.store.readings import Readings, Source
from pipeline.adapters.store.store import Store
from pipeline.gateway.measuring import Measuring
from pipeline.gateway.metering import latency_ms
from pipeline.records.kernel import Change
from schemas.deployment import AutoscalePolicy, Metric, ScalingTarget
from tests.connected.gateway.conftest import Rig
from tests.support.models.upstreams import upstream
from tests.support.waiting import eventually

TIMED = AutoscalePolicy(targets=[ScalingTarget(metric=Metric.LATENCY, value=100, percentile=95)])


@pytest.fixture
async def measuring(rig: Rig, store: Store) -> Measuring:
    await store.beside("readings").delete_many({})
    return Measuring(Readings(store), rig.gateway._haproxy, name="this", interval_s=1)


async def test_calls_under_way_and_times_of_answers_are_told_by_deployment(
    rig: Rig, store: Store, measuring: Measuring
) -> None:
    timed, plain = await rig.deployment("timed", autoscale=TIMED), await rig.deployment("plain")
    async with upstream("one") as one:
        await rig.replica(timed, one)
        await rig.replica(plain, one)
        await rig.gateway.look()
        await measuring.measure()
        assert await Readings(store).recent(Source.GATEWAY, timedelta(minutes=1)) == []
        for _ in range(5):
            assert (await rig.call(f"/{timed.slug}/")).status_code == 200
        assert (await rig.call(f"/{plain.slug}/")).status_code == 200
        slow = asyncio.create_task(rig.call(f"/{plain.slug}/slow"))
        await eventually(lambda: "GET /slow" in one.asked)
        await measuring.measure()
        one.hold.set()
        assert (await slow).status_code == 200
        [reading] = await Readings(store).recent(Source.GATEWAY, timedelta(minutes=1))
    assert (reading.name, set(reading.figures)) == ("this", {timed.slug, plain.slug})
    told = reading.figures[timed.slug]
    counted = dict(told["latencies"])
    assert sum(counted.values()) == 5
    assert 0 <= (latency_ms(counted, 95) or -1) < 1000
    assert told["rate"] > 0
    assert reading.figures[plain.slug]["under_way"] == 0.5, "none, then one"
    assert reading.figures[plain.slug]["latencies"] == []


async def test_times_are_counted_from_the_reload_on_that_another_rule_takes(
    rig: Rig, measuring: Measuring, store: Store
) -> None:
    made = await rig.deployment("clf")
    async with upstream("one") as one:
        await rig.replica(made, one)
        await rig.gateway.look()
        reloads = rig.gateway.reloads
        await rig.gateway.look()
        assert rig.gateway.reloads == reloads
        await rig.records.commit(made, Change({"autoscale": TIMED.model_dump(mode="json")}))
        await rig.gateway.look()
        assert rig.gateway.reloads == reloads + 1
        await rig.gateway.look()
        assert rig.gateway.reloads == reloads + 1
        await measuring.measure()
        calls = [rig.call(f"/{made.slug}/") for _ in range(3)]
        assert {answer.status_code for answer in await asyncio.gather(*calls)} == {200}
        await measuring.measure()
        [reading] = await Readings(store).recent(Source.GATEWAY, timedelta(minutes=1))
        assert sum(count for _, count in reading.figures[made.slug]["latencies"]) == 3


async def test_a_replica_gets_no_more_calls_at_once_than_it_takes_and_the_others_wait(
    rig: Rig, measuring: Measuring, store: Store
) -> None:
    made = await rig.deployment("narrow", max_calls=1)
    async with upstream("one") as one:
        await rig.replica(made, one)
        await rig.gateway.look()
        slow = [asyncio.create_task(rig.call(f"/{made.slug}/slow")) for _ in range(3)]

        async def two_wait() -> bool:
            await measuring.measure()
            told = await Readings(store).recent(Source.GATEWAY, timedelta(minutes=1))
            return any(each.figures.get(made.slug, {}).get("queued", 0) > 1 for each in told)

        await eventually(two_wait)
        assert one.asked == ["GET /slow"]
        await rig.records.commit(made, Change({"max_calls": 3}))
        await rig.gateway.look()
        await eventually(lambda: len(one.asked) == 3)
        assert rig.gateway.reloads == 1, "without another configuration"
        one.hold.set()
        assert {answer.status_code for answer in await asyncio.gather(*slow)} == {200}
