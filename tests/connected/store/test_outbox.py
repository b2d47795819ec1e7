"""The outbox against a real store and a real broker."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.adapters.bus.client import Bus
from pipeline.adapters.store.store import KINDS, Store
from pipeline.errors import BusUnavailable, StoreUnavailable
from pipeline.records import messages as module
from pipeline.records.messages import Outbox, Publisher
from pipeline.stack.pieces.nats import NatsPiece
from schemas.base import Record
from schemas.image import Image
from schemas.message import Message
from tests.support.outboxes import LATER, published, told, waiting, with_outbox
from tests.support.records import after, image, message


class Counting:
    """The real broker, with a count of what it was asked."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.asked: list[str] = []

    async def publish(self, message: Message, *, timeout_s: float = 5) -> int:
        self.asked.append(message.type)
        return await self.bus.publish(message, timeout_s=timeout_s)


async def test_messages_go_out_in_order_and_leave_the_record(store: Store, bus: Bus) -> None:
    mine = await with_outbox(store, "one", "two", "three")
    async with Outbox(store, bus) as outbox:
        await outbox.send(mine)
        assert await published(bus) == ["one", "two", "three"]
    assert await waiting(store, mine) == []


async def test_a_record_without_messages_costs_nothing(store: Store, bus: Bus) -> None:
    async with Outbox(store, bus) as outbox:
        await outbox.send(image())
    assert await published(bus) == []


async def test_what_is_published_but_not_marked_yet_is_not_published_again(
    store: Store, bus: Bus
) -> None:
    counting = Counting(bus)
    mine = await with_outbox(store, "one")
    async with Outbox(store, counting) as outbox:
        await outbox.send(mine)
        changed = await store.change(mine, {}, at=after(1), messages=told(mine, "two"))
        await outbox.send(changed)
    assert counting.asked == ["one", "two"]
    assert await waiting(store, mine) == []


async def test_a_message_that_reached_us_is_not_published_by_us(store: Store, bus: Bus) -> None:
    counting = Counting(bus)
    mine = await with_outbox(store, "one", "two", "three")
    async with Outbox(store, counting) as outbox:
        outbox.delivered(mine.outbox[1])
        await outbox.send(mine)
    assert counting.asked == ["three"]
    assert await waiting(store, mine) == []


async def test_a_stranger_who_guesses_an_id_keeps_nothing_back(store: Store, bus: Bus) -> None:
    mine = await with_outbox(store, "one")
    async with Outbox(store, bus) as outbox:
        outbox.delivered(message(mine.outbox[0].id))
        await outbox.send(mine)
    assert await published(bus) == ["one"]


async def test_the_memory_of_what_was_published_is_bounded(store: Store, bus: Bus) -> None:
    async with Outbox(store, bus) as outbox:
        for number in range(module.REMEMBERED + 10):
            outbox.delivered(message(f"{number}"))
        assert len(outbox._published) == module.REMEMBERED


async def test_two_processes_that_send_the_same_record_publish_it_once(
    store: Store, bus: Bus
) -> None:
    mine = await with_outbox(store, "one", "two")
    async with Outbox(store, bus) as here, Outbox(store, bus) as there:
        await asyncio.gather(here.send(mine), there.send(mine))
    assert await published(bus) == ["one", "two"]
    assert await waiting(store, mine) == []


async def test_many_records_are_marked_together(
    store: Store, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    mark = store.clear_outbox

    async def counted(kind: type[Record], ids: dict[str, list[str]]) -> None:
        batches.append(len(ids))
        await mark(kind, ids)

    monkeypatch.setattr(store, "clear_outbox", counted)
    made = [await with_outbox(store, "one") for _ in range(30)]
    async with Outbox(store, bus) as outbox:
        await asyncio.gather(*(outbox.send(each) for each in made))
    assert sum(batches) == 30
    assert len(batches) < 10
    assert await store.unsent(Image, before=LATER, limit=1) == []


# --- a broker that is away --------------------------------------------------------------------


async def test_a_broker_that_is_away_does_not_fail_the_caller(
    store: Store,
    bus: Bus,
    own_nats: NatsPiece,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "PUBLISH_S", 0.1)
    mine = await with_outbox(store, "one", "two")
    await own_nats.kill()
    async with Outbox(store, bus) as outbox:
        await outbox.send(mine)
        assert "waits in its outbox" in caplog.text
        assert await waiting(store, mine) == ["one", "two"]
        assert await outbox.sweep(KINDS, LATER) == 0
        monkeypatch.setattr(module, "PUBLISH_S", 10)
        await own_nats.start()
        assert await outbox.sweep(KINDS, LATER) == 1
    assert await published(bus) == ["one", "two"]
    assert await waiting(store, mine) == []


class Failing:
    """Publishes until it meets the named type."""

    def __init__(self, bus: Bus, at: str) -> None:
        self.bus = bus
        self.at = at

    async def publish(self, message: Message, *, timeout_s: float = 5) -> int:
        if message.type == self.at:
            raise BusUnavailable("away")
        return await self.bus.publish(message, timeout_s=timeout_s)


async def test_a_message_never_overtakes_the_one_before_it(store: Store, bus: Bus) -> None:
    mine = await with_outbox(store, "one", "two", "three")
    async with Outbox(store, Failing(bus, at="two")) as outbox:
        await outbox.send(mine)
    assert await published(bus) == ["one"]
    assert await waiting(store, mine) == ["two", "three"]


async def test_a_message_that_no_broker_takes_does_not_hold_up_the_others(
    store: Store, bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    mine = image()
    huge, small = told(mine, "huge", "small")
    mine.outbox = [huge.model_copy(update={"data": {"x": "y" * 2_000_000}}), small]
    await store.insert(mine)
    async with Outbox(store, bus) as outbox:
        assert await outbox.sweep([Image], LATER) == 1
    assert await published(bus) == ["small"]
    assert await waiting(store, mine) == []
    assert "dropped" in caplog.text


async def test_a_mark_that_fails_is_made_up_for_by_the_sweep(
    store: Store, bus: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def away(kind: type[Record], ids: dict[str, list[str]]) -> None:
        raise StoreUnavailable("away")

    counting = Counting(bus)
    mine = await with_outbox(store, "one")
    async with Outbox(store, counting) as outbox:
        with monkeypatch.context() as broken:
            broken.setattr(store, "clear_outbox", away)
            await outbox.send(mine)
            await outbox.close()
        assert "keep sent messages" in caplog.text
        assert await outbox.sweep([Image], LATER) == 1
    assert counting.asked == ["one"]
    assert await waiting(store, mine) == []


async def test_a_cancelled_send_still_marks_what_it_published(store: Store, bus: Bus) -> None:
    reached = asyncio.Event()

    class Stuck(Counting):
        async def publish(self, message: Message, *, timeout_s: float = 5) -> int:
            if message.type == "two":
                reached.set()
                await asyncio.Event().wait()
            return await super().publish(message, timeout_s=timeout_s)

    mine = await with_outbox(store, "one", "two")
    async with Outbox(store, Stuck(bus)) as outbox:
        sending = asyncio.create_task(outbox.send(mine))
        await reached.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
    assert await waiting(store, mine) == ["two"]


def test_the_bus_is_a_publisher(bus: Bus) -> None:
    publisher: Publisher = bus
    assert publisher is bus
