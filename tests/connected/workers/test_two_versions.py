"""Two releases side by side: what the newer one writes, the older one neither breaks nor buries."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry

from pipeline import topology
from pipeline.adapters.bus.client import Bus
from pipeline.adapters.store.store import Store
from schemas.base import Shape
from schemas.container import Container
from schemas.message import Message
from schemas.states import ContainerStatus as Status
from tests.support.engines.node_rig import node_rig
from tests.support.systems.working import TRIAL
from tests.support.waiting import eventually
from workers.app import build
from workers.broker import YardBroker, stage

PLAN = replace(TRIAL, retry_base_s=0.5, retry_cap_s=1, max_deliver=6)


class Old(Shape):
    number: int


class New(Shape):
    number: int
    priority: int = 0


class Release:
    """A worker of one release."""

    def __init__(self, bus: Bus, data: type[Old] | type[New]) -> None:
        self.done: list[int] = []
        self.registry = CollectorRegistry()
        self._data = data
        self._app = build(bus, [self._register], registry=self.registry, drain_s=5)

    def _register(self, broker: YardBroker) -> None:
        if self._data is Old:

            @stage(broker, PLAN)
            async def old(order: Old) -> None:
                self.done.append(order.number)
        else:

            @stage(broker, PLAN)
            async def new(order: New) -> None:
                self.done.append(order.number)

    def count(self, outcome: str) -> float:
        labels = {"stage": PLAN.durable, "outcome": outcome}
        return self.registry.get_sample_value("modelyard_deliveries_total", labels) or 0

    @classmethod
    @asynccontextmanager
    async def running(cls, bus: Bus, data: type[Old] | type[New]) -> AsyncIterator[Release]:
        release = cls(bus, data)
        await release._app.start()
        try:
            yield release
        finally:
            await release._app.stop()


def command(number: int, **more: int) -> Message:
    return Message(
        id=f"m-{number}",
        subject=topology.command("acme", "trial", "run"),
        type="modelyard.cmd.trial.run",
        time=datetime.now(UTC),
        data={"number": number} | more,
    )


async def test_both_share_what_both_understand(bus: Bus) -> None:
    await bus.prepare_stage(PLAN)
    async with Release.running(bus, Old) as old, Release.running(bus, New) as new:
        for number in range(20):
            await bus.publish(command(number))
        await eventually(lambda: len(old.done) + len(new.done) == 20)
    assert sorted(old.done + new.done) == list(range(20))


async def test_what_only_the_newer_one_understands_is_given_back_until_it_gets_there(
    bus: Bus,
) -> None:
    await bus.prepare_stage(PLAN)
    async with Release.running(bus, Old) as old:
        await bus.publish(command(1, priority=5))
        await eventually(lambda: old.count("retried") == 1)
    async with Release.running(bus, New) as new:
        await eventually(lambda: new.done == [1])
    assert old.count("buried") == 0


async def test_what_the_newer_one_wrote_into_a_record_outlives_what_the_older_one_does(
    store: Store,
) -> None:
    async with node_rig(store) as rig:
        container = await rig.run(gpus=1)
        records = store._database[Container.collection]
        await records.update_one({"_id": container.uuid}, {"$set": {"of_tomorrow": {"a": 1}}})
        await rig.hand_over()
        await rig.containers.delete(rig.caller, container.uuid)
        await rig.hand_over()
        assert (await rig.record(container)).status is Status.DELETED
        found = await records.find_one({"_id": container.uuid})
        assert found is not None
        assert found["of_tomorrow"] == {"a": 1}
