"""Figures of the whole system, from a real broker and a real store."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from pipeline import topology
from pipeline.adapters.bus.client import Bus
from pipeline.adapters.store.readings import Readings, Source
from pipeline.adapters.store.store import Store
from pipeline.monitoring import service
from pipeline.monitoring.service import Figures, Monitoring, Queue
from pipeline.records.kernel import Records, now
from pipeline.records.messages import Outbox
from schemas.message import Message
from schemas.node import Lease
from schemas.states import ContainerStatus, NodeStatus
from tests.support.records import GIB, ORG, container, gpu, node


@pytest.fixture
def monitoring(store: Store, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> Monitoring:
    monkeypatch.setattr(service, "FRESH_S", 0)
    return Monitoring(Records(store, Outbox(store, bus)), bus)


async def ask(bus: Bus, number: int) -> None:
    """A command that nobody works on."""
    message = Message(
        id=f"asked-{number}",
        subject=topology.command(ORG, "image", "validate"),
        type="modelyard.cmd.image.validate",
        time=now(),
        data={"id": f"i{number}"},
    )
    await bus.publish(message)


def queue(figures: Figures, stage: str) -> Queue:
    [found] = [each for each in figures.queues if each.stage == stage]
    return found


async def test_what_waits_and_what_is_worked_on_is_counted_with_the_age_of_the_oldest(
    monitoring: Monitoring, bus: Bus
) -> None:
    for number in range(3):
        await ask(bus, number)
    await asyncio.sleep(0.2)  # so that the oldest has an age
    waiting = queue(await monitoring.figures(), "image-validate")
    assert (waiting.waiting, waiting.in_progress) == (3, 0)
    assert waiting.oldest_s >= 0.2
    async with bus.pull(topology.IMAGE_VALIDATE) as pull:
        taken = await pull.next(1)
        assert taken is not None
        working = queue(await monitoring.figures(), "image-validate")
        assert (working.waiting, working.in_progress) == (2, 1)
        assert working.oldest_s >= waiting.oldest_s, "it is not done yet"
        await taken.ack()
    assert queue(await monitoring.figures(), "image-delete") == Queue("image-delete", 0, 0, 0.0)


async def test_what_organisations_ask_and_dead_letters_are_counted(
    monitoring: Monitoring, bus: Bus
) -> None:
    await bus.prepare_org(ORG)
    asked = "yard.ask.acme.image.create"
    await bus.publish_raw(asked, b"{}", {"Nats-Msg-Id": "a"})
    for number in range(2):
        dead = topology.dead(topology.command(ORG, "image", f"verb{number}"))
        await bus.publish_raw(dead, b"{}", {"Nats-Msg-Id": f"d{number}"})
    figures = await monitoring.figures()
    assert queue(figures, "intake").waiting == 1
    assert figures.dead_letters == 2
    assert not [each for each in figures.queues if each.stage.startswith("org-")]


async def test_nodes_tell_what_they_have_what_is_held_and_what_is_busy(
    monitoring: Monitoring, store: Store
) -> None:
    gpus = [gpu(f"GPU-{number}", healthy=number < 3) for number in range(4)]
    busy = Lease(container="c1", fence=1, gpus=[gpus[0].uuid, gpus[1].uuid], memory_bytes=GIB)
    made = node("n1", *gpus)
    made.leases = {"c1": busy}
    made.held = {gpus[0].uuid: "c1", gpus[1].uuid: "c1"}
    made.leased_memory_bytes = GIB
    await store.insert(made)
    await store.insert(node("gone").model_copy(update={"status": NodeStatus.DELETED}))
    measured = {"c1": {"gpu_percent": 75.0}, "c2": {"gpu_percent": None}}
    await Readings(store).publish(Source.CONTAINERS, made.uuid, measured)
    [told] = (await monitoring.figures()).nodes
    assert (told.name, told.status) == ("n1", "READY")
    assert (told.gpus, told.gpus_allocated, told.gpus_unhealthy) == (4, 2, 1)
    assert told.gpus_busy == 1.5
    assert told.memory_allocated_bytes == GIB


async def test_records_are_counted_by_status_without_what_is_deleted(
    monitoring: Monitoring, store: Store
) -> None:
    for status in (*[ContainerStatus.RUNNING] * 2, ContainerStatus.FAILED, ContainerStatus.DELETED):
        await store.insert(container(status=status))
    records = (await monitoring.figures()).records
    assert records["container"] == {"RUNNING": 2, "FAILED": 1}
    assert records["image"] == {}


async def test_who_asks_at_the_same_time_shares_an_answer(
    monitoring: Monitoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "FRESH_S", timedelta(minutes=1).total_seconds())
    first, second = await asyncio.gather(monitoring.figures(), monitoring.figures())
    assert first is second
