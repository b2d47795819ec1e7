"""Reading and following the event stream on a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from pipeline import topology
from pipeline.adapters.bus.client import Bus
from pipeline.adapters.bus.reading import StoredEvent
from pipeline.errors import BusUnavailable, NotFound
from pipeline.stack.pieces.nats import NatsPiece
from tests.support.events import Heard, happened, stored_events


@pytest.fixture
async def heard(bus: Bus) -> AsyncIterator[Heard]:
    heard = Heard()
    async with bus.live(heard.event, heard.reset):
        yield heard


# --- reading


async def test_reading_pages_through_batches_and_keeps_to_one_organisation(bus: Bus) -> None:
    for number in range(300):
        await bus.publish(happened(number, org="acme" if number % 3 else "other"))
    everything = [event.sequence async for event in stored_events(bus, None)]
    assert everything == list(range(1, 301))
    acme = [event async for event in stored_events(bus, "acme", after=150)]
    assert {topology.parse_event(event.subject).org for event in acme} == {"acme"}
    assert [event.sequence for event in acme] == [n + 1 for n in range(150, 300) if n % 3]
    assert [event async for event in stored_events(bus, None, after=300)] == []
    assert [event async for event in stored_events(bus, "nobody")] == []


async def test_reading_a_missing_stream_says_so(own_nats: NatsPiece) -> None:
    async with Bus.open(own_nats.url, name="test") as bus:
        with pytest.raises(BusUnavailable, match="YARD_EVENTS"):
            _ = [event async for event in stored_events(bus, None)]
        with pytest.raises(NotFound):
            await bus.position()


async def test_one_stored_message_is_read_and_deleted_by_its_sequence(bus: Bus) -> None:
    sequence = await bus.publish(happened(1))
    await bus.publish(happened(2))
    stored = await bus.stored("YARD_EVENTS", sequence)
    assert stored.headers["Nats-Msg-Id"] == "acme-1"
    assert await bus.delete_stored("YARD_EVENTS", sequence)
    assert not await bus.delete_stored("YARD_EVENTS", sequence)
    with pytest.raises(NotFound):
        await bus.stored("YARD_EVENTS", sequence)


async def test_the_epoch_changes_only_when_the_stream_is_made_anew(bus: Bus) -> None:
    epoch = (await bus.position()).epoch
    await bus.publish(happened(1))
    await bus.prepare()
    assert (await bus.position()).epoch == epoch
    await bus.client.jetstream().delete_stream("YARD_EVENTS")
    await bus.prepare()
    assert (await bus.position()).epoch != epoch


# --- following


async def test_live_hands_over_every_event_in_order(bus: Bus, heard: Heard) -> None:
    await asyncio.gather(*(bus.publish(happened(number)) for number in range(50)))
    await heard.until(50)
    assert heard.sequences == list(range(1, 51))
    assert heard.events[0].subject.startswith("yard.evt.acme.image.")
    assert heard.events[0].headers["ce-type"] == "modelyard.image.created"


async def test_live_begins_behind_a_sequence_and_goes_on_without_a_gap(bus: Bus) -> None:
    for number in range(5):
        await bus.publish(happened(number))
    heard = Heard()
    async with bus.live(heard.event, heard.reset, after=2):
        await bus.publish(happened(5))
        await heard.until(4)
    assert heard.sequences == [3, 4, 5, 6]
    assert heard.resets == 0


async def test_live_fills_a_gap_from_the_stream(bus: Bus, heard: Heard) -> None:
    await bus.publish(happened(1))
    await heard.until(1)
    js = bus.client.jetstream()
    config = (await js.stream_info("YARD_EVENTS")).config
    await js.update_stream(config.evolve(republish=None, metadata=None))
    await bus.publish(happened(2))
    await bus.publish(happened(3))
    await bus.prepare()
    await bus.publish(happened(4))
    await heard.until(4)
    assert heard.sequences == [1, 2, 3, 4]


async def test_live_is_not_confused_by_deleted_events(bus: Bus, heard: Heard) -> None:
    await bus.publish(happened(1))
    doomed = await bus.publish(happened(2))
    await heard.until(2)
    await bus.delete_stored("YARD_EVENTS", doomed)
    late = Heard()
    async with bus.live(late.event, late.reset, after=0):
        await bus.publish(happened(3))
        await late.until(2)
    assert late.sequences == [1, 3]


async def test_live_says_when_the_stream_was_made_anew(bus: Bus, heard: Heard) -> None:
    for number in range(3):
        await bus.publish(happened(number))
    await heard.until(3)
    await bus.client.jetstream().delete_stream("YARD_EVENTS")
    await bus.prepare()
    await bus.publish(happened(7))
    await heard.until(4)
    assert heard.resets == 1
    assert heard.sequences == [1, 2, 3, 1]


async def test_live_goes_on_after_the_broker_was_killed(
    bus: Bus, own_nats: NatsPiece, heard: Heard
) -> None:
    await bus.publish(happened(1))
    await heard.until(1)
    await own_nats.kill()
    await own_nats.start()
    async with Bus.open(own_nats.url, name="other") as other:
        await other.publish(happened(2))
    await heard.until(2)
    assert heard.sequences == [1, 2]
    await bus.publish(happened(3))
    await heard.until(3)


async def test_a_reader_that_fails_does_not_stop_the_others(
    bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    heard = Heard()

    def event(stored: StoredEvent) -> None:
        heard.event(stored)
        if stored.sequence == 1:
            raise RuntimeError("a fault of the reader")

    async with bus.live(event, heard.reset):
        await bus.publish(happened(1))
        await bus.publish(happened(2))
        await heard.until(2)
    assert "a fault of the reader" in caplog.text
