"""The hub without a broker: what readers and waiters get."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pipeline.adapters.bus.reading import Live, OnEvent, OnReset
from pipeline.errors import BusUnavailable
from pipeline.events import hub as event_hub
from pipeline.events.hub import EventHub, Watches
from pipeline.events.readers import Reader, Wanted
from tests.support.event_log import FakeEventLog
from tests.support.http.frames import Seen, events, parse

BUFFER = 16
ALL = Wanted()


@pytest.fixture
def log() -> FakeEventLog:
    return FakeEventLog()


@pytest.fixture
async def hub(log: FakeEventLog) -> AsyncIterator[EventHub]:
    async with EventHub.open(log, buffer_frames=BUFFER) as hub:
        await asyncio.wait_for(log.opened.wait(), 30)
        yield hub


async def seen(reader: Reader, count: int) -> list[Seen]:
    """The next events, at least `count` of them."""
    found: list[Seen] = []
    async with asyncio.timeout(30):
        while len(found) < count and not reader.ended:
            found += events(parse(await reader.read(5)))
    return found


async def test_a_reader_sees_what_happens_after_it_came(hub: EventHub, log: FakeEventLog) -> None:
    log.happen("before")
    async with hub.subscribe("acme", ALL, after=None) as reader:
        log.happen("created", name="x")
        [frame] = await seen(reader, 1)
    assert frame.id == "e1-2"
    assert frame.data["type"] == "modelyard.image.created"
    assert frame.data["data"] == {"name": "x"}


async def test_a_reader_sees_only_its_organisation(hub: EventHub, log: FakeEventLog) -> None:
    async with hub.subscribe("acme", ALL, after=None) as reader:
        log.happen("created", org="other")
        log.happen("created", org="acme", id="mine")
        [frame] = await seen(reader, 1)
    assert frame.data["subject"] == "mine"


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted(resources=frozenset({"image"})), ["pull.progressed", "pulled", "pull"]),
        (Wanted(ids=frozenset({"c1"})), ["running"]),
        (Wanted(kind="pull"), ["pull.progressed", "pull"]),
    ],
)
async def test_a_reader_sees_only_what_it_asked_for(
    hub: EventHub, log: FakeEventLog, wanted: Wanted, expected: list[str]
) -> None:
    async with hub.subscribe("acme", wanted, after=None) as reader:
        log.happen("pull.progressed")
        log.happen("running", resource="container", id="c1")
        log.happen("pulled")
        log.happen("pull")
        found = await seen(reader, len(expected))
    assert [frame.data["kind"] for frame in found] == expected


@pytest.mark.parametrize("happened", [5, BUFFER - 1, BUFFER * 3, 700])
@pytest.mark.parametrize("after", [0, 3])
async def test_a_reader_resumes_without_gap_or_duplicate(
    hub: EventHub, log: FakeEventLog, happened: int, after: int
) -> None:
    for _ in range(happened):
        log.happen()
    async with hub.subscribe("acme", ALL, after=f"e1-{after}") as reader:
        first = await seen(reader, 1)
        for _ in range(3):
            log.happen()
        rest = await seen(reader, happened + 3 - after - len(first))
    assert [frame.sequence for frame in first + rest] == list(range(after + 1, happened + 4))


async def test_resuming_readers_share_what_the_lane_holds(hub: EventHub, log: FakeEventLog) -> None:
    for _ in range(10):
        log.happen()
    for _ in range(20):
        async with hub.subscribe("acme", ALL, after="e1-4") as reader:
            assert [frame.sequence for frame in await seen(reader, 6)] == list(range(5, 11))
    assert log.reads == 1


async def test_an_event_is_encoded_once_for_all_readers(hub: EventHub, log: FakeEventLog) -> None:
    async with (
        hub.subscribe("acme", ALL, after=None) as one,
        hub.subscribe("acme", ALL, after=None) as two,
    ):
        log.happen()
        assert (await one.read(5)) == (await two.read(5))
        assert one._lane is two._lane


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("e1-2", "expired"),
        ("e0-50", "stream_recreated"),
        ("e1-900", "unknown_id"),
        ("rubbish", "unknown_id"),
        ("e1-", "unknown_id"),
        ("e1-²", "unknown_id"),
    ],
)
async def test_an_id_that_cannot_be_resumed_resets_to_the_oldest_event(
    hub: EventHub, log: FakeEventLog, given: str, reason: str
) -> None:
    for _ in range(12):
        log.happen()
    log.expire(first=10)
    async with hub.subscribe("acme", ALL, after=given) as reader:
        _, reset = parse(reader.opening)
        found = await seen(reader, 3)
    assert reset.event == "reset"
    assert reset.data == {"reason": reason, "given": given}
    assert reset.id == "e1-9", "a reader that breaks off here resumes at the oldest event"
    assert [frame.sequence for frame in found] == [10, 11, 12]
    assert hub.resets == 1


async def test_the_oldest_kept_event_is_resumed_without_reset(
    hub: EventHub, log: FakeEventLog
) -> None:
    for _ in range(12):
        log.happen()
    log.expire(first=10)
    async with hub.subscribe("acme", ALL, after="e1-9") as reader:
        assert len(parse(reader.opening)) == 1
        assert [frame.sequence for frame in await seen(reader, 3)] == [10, 11, 12]


async def test_an_id_that_another_process_was_quicker_to_pass_on_is_not_reset(
    hub: EventHub, log: FakeEventLog
) -> None:
    live = log._live
    log.happen()
    log._live = None  # the feed of this process falls behind
    ahead = log.happen()
    async with hub.subscribe("acme", ALL, after=f"e1-{ahead.sequence}") as reader:
        assert len(parse(reader.opening)) == 1
        log._live = live
        assert live is not None
        live.on_event(ahead)
        log.happen("newer")
        [frame] = await seen(reader, 1)
    assert frame.data["kind"] == "newer"


async def test_a_slow_reader_is_bounded_and_misses_nothing(
    hub: EventHub, log: FakeEventLog
) -> None:
    async with (
        hub.subscribe("acme", ALL, after=None) as slow,
        hub.subscribe("acme", ALL, after=None) as quick,
    ):
        for _ in range(3 * BUFFER):
            log.happen()
            await seen(quick, 1)
            assert len(slow._pending) <= BUFFER
        found = await seen(slow, 3 * BUFFER)
        log.happen("newer")
        [newer] = await seen(slow, 1)
    assert [frame.sequence for frame in found] == list(range(1, 3 * BUFFER + 1))
    assert newer.data["kind"] == "newer"
    assert hub.fallen_behind > 0


async def test_a_reader_that_waits_while_a_burst_overtakes_it_misses_nothing(
    hub: EventHub, log: FakeEventLog
) -> None:
    async with hub.subscribe("acme", ALL, after=None) as reader:
        waiting = asyncio.create_task(seen(reader, BUFFER + 1))
        await asyncio.sleep(0)
        for _ in range(BUFFER + 1):
            log.happen()
        found = await waiting
    assert [frame.sequence for frame in found] == list(range(1, BUFFER + 2))


async def test_a_quiet_reader_gets_heartbeats_that_move_its_id(
    hub: EventHub, log: FakeEventLog
) -> None:
    async with hub.subscribe("acme", ALL, after=None) as reader:
        log.happen(org="other")
        beat = await reader.read(0.01)
    assert beat.startswith(b":")
    assert parse(beat)[0].id == "e1-1"


async def test_a_stream_made_anew_sends_readers_away_and_resets_them(
    hub: EventHub, log: FakeEventLog
) -> None:
    log.happen()
    async with hub.subscribe("acme", ALL, after="e1-0") as reader:
        await seen(reader, 1)
        log.recreate("e2")
        [bye] = parse(await reader.read(5))
        assert (bye.event, reader.ended) == ("bye", True)
    log.happen("anew")
    async with hub.subscribe("acme", ALL, after="e1-1") as reader:
        assert parse(reader.opening)[1].data["reason"] == "stream_recreated"
        [frame] = await seen(reader, 1)
    assert frame.id == "e2-1"


async def test_draining_ends_readers_and_waits_after_what_is_pending(
    hub: EventHub, log: FakeEventLog
) -> None:
    async with hub.subscribe("acme", ALL, after=None) as reader:
        log.happen()
        with hub.watch("acme", "image", "i2") as watch:
            hub.drain()
            assert not await watch.moved(5)
        assert len(await seen(reader, 1)) == 1
        assert parse(await reader.read(5))[0].event == "bye"
        assert reader.ended
    async with hub.subscribe("acme", ALL, after=None) as late:
        await late.read(5)
        assert late.ended
    with hub.watch("acme", "image", "i2") as watch:
        assert not await watch.moved(5)


async def test_a_watch_wakes_for_its_record_only(hub: EventHub, log: FakeEventLog) -> None:
    with hub.watch("acme", "image", "i1") as watch:
        log.happen(id="i2")
        log.happen(org="other")
        assert not await watch.moved(0.01)
        log.happen()
        assert await watch.moved(5)
        assert not await watch.moved(0.01)
    assert not hub._watches._open


async def test_what_leaves_nothing_behind(hub: EventHub, log: FakeEventLog) -> None:
    async with hub.subscribe("acme", ALL, after=None):
        assert hub.readers == 1
    assert hub.readers == 0
    assert not hub._lanes["acme"].readers


async def test_only_some_lanes_without_readers_are_kept(
    hub: EventHub, log: FakeEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_hub, "IDLE_LANES", 3)
    async with hub.subscribe("busy", ALL, after=None):
        for number in range(10):
            async with hub.subscribe(f"org{number}", ALL, after=None):
                pass
        assert "busy" in hub._lanes
        assert len(hub._lanes) <= 3 + 2


async def test_a_broker_that_fails_while_a_reader_catches_up_sends_it_away(
    hub: EventHub, log: FakeEventLog
) -> None:
    for _ in range(BUFFER * 3):
        log.happen()
    async with hub.subscribe("acme", ALL, after="e1-0") as reader:
        log.down = True
        assert parse(await reader.read(5))[0].event == "bye"
        assert reader.ended


async def test_readers_are_refused_while_the_stream_was_never_reached(
    log: FakeEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_hub, "OPEN_S", 0.01)
    log.down = True
    async with EventHub.open(log, buffer_frames=BUFFER) as hub:
        assert not hub.live
        with pytest.raises(BusUnavailable):
            async with hub.subscribe("acme", ALL, after=None):
                pass


async def test_the_hub_finds_a_broker_that_comes_later(
    log: FakeEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_hub, "RETRY_S", 0.01)
    log.down = True
    async with EventHub.open(log, buffer_frames=BUFFER) as hub:
        log.down = False
        async with hub.subscribe("acme", ALL, after=None) as reader:
            log.happen()
            assert len(await seen(reader, 1)) == 1


async def test_an_event_under_a_foreign_subject_is_passed_over(
    hub: EventHub, log: FakeEventLog
) -> None:
    from dataclasses import replace

    async with hub.subscribe("acme", ALL, after=None) as reader:
        assert log._live is not None
        log._live.on_event(replace(log.happen("ours"), subject="yard.evt.acme.image"))
        assert [frame.data["kind"] for frame in await seen(reader, 1)] == ["ours"]


async def test_it_closes_though_its_cancellation_was_swallowed(
    log: FakeEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening, swallowed = asyncio.Event(), asyncio.Event()
    real = log.live

    @asynccontextmanager
    async def live(on_event: OnEvent, on_reset: OnReset) -> AsyncIterator[Live]:
        try:
            opening.set()
            await asyncio.Future()
        except asyncio.CancelledError:
            swallowed.set()  # as a request does whose answer comes at the same moment
        async with real(on_event, on_reset) as feed:
            yield feed

    monkeypatch.setattr(log, "live", live)
    async with asyncio.timeout(30):
        async with EventHub.open(log, buffer_frames=BUFFER):
            await opening.wait()
    assert swallowed.is_set()


KEY = ("acme", "image", "1")


async def test_an_event_says_when_to_look() -> None:
    watches, shown = Watches(), iter([2, 3])

    async def look(last: int) -> int:
        watches.wake(KEY)
        return next(shown)

    with watches.watch(KEY) as watch:
        watches.wake(KEY)
        assert await watch.until(lambda seen: seen == 3, 1, look, wait_s=5) == 3


async def test_when_the_time_is_over_a_last_look_is_what_counts() -> None:
    looks: list[int] = []

    async def look(last: int) -> int:
        looks.append(last)
        return last + 1

    with Watches().watch(KEY) as watch:
        assert await watch.until(lambda _: False, 1, look, wait_s=0.01) == 2
        assert await watch.until(lambda seen: seen == 9, 9, look) == 9
        assert await watch.until(lambda _: False, 5, look, wait_s=0) == 5
    assert looks == [1]


async def test_it_is_looked_at_without_events_where_that_is_asked_for() -> None:
    async def look(last: int) -> int:
        return last + 1

    with Watches().watch(KEY) as watch:
        assert await watch.until(lambda seen: seen == 4, 1, look, look_every_s=0.01) == 4


async def test_a_stop_ends_the_wait() -> None:
    watches = Watches()

    async def look(last: int) -> int:
        return last + 1

    with watches.watch(KEY) as watch:
        asyncio.get_running_loop().call_soon(watches.end)
        assert await watch.until(lambda _: False, 1, look) == 2
        assert await watch.until(lambda _: False, 1, look) == 1
