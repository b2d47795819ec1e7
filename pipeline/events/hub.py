"""The event hub: one live feed of events per process, fanned out to readers and waiters."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from functools import partial
from typing import Protocol, TypeVar

from pipeline import concurrency, topology
from pipeline.adapters.bus.reading import Batch, Live, OnEvent, OnReset, Position, StoredEvent
from pipeline.errors import BusUnavailable, InvalidInput, NotFound, YardError
from pipeline.events import sse
from pipeline.events.readers import Frame, Lane, Reader, Wanted
from pipeline.events.sse import EventId
from pipeline.topology import EventSubject

log = logging.getLogger(__name__)

IDLE_LANES = 64
"""Organisations without readers whose newest events are kept for those who come back."""
REPLAY_EVENTS = 256
"""Events read from the stream at once for one reader: nothing is held open while it is slow."""
REPLAYS_AT_ONCE = 8
OPEN_S = 5.0
"""How long a reader waits for a hub that has not reached the broker yet."""
RETRY_S = 0.5
RETRY_HINT_MS = 1000
SPREAD_MS = 50
SPREAD_STEPS = 40
"""Readers are told slightly different waits, so that they do not all come back at once."""
STOPPING = "The server is stopping: resume by the last id."


class EventLog(Protocol):
    """What the hub needs of the broker (`pipeline.adapters.bus.client.Bus`)."""

    async def position(self) -> Position: ...

    async def read_batch(
        self, stream: str, *, after: int, subject: str, limit: int = ...
    ) -> Batch: ...

    def live(
        self, on_event: OnEvent, on_reset: OnReset, *, after: int | None = None
    ) -> AbstractAsyncContextManager[Live]: ...


class EventHub:
    """Made with `open`, which keeps the feed running."""

    def __init__(self, events: EventLog, *, buffer_frames: int) -> None:
        self._events = events
        self._limit = buffer_frames
        self._feed: Live | None = None
        self._begun = asyncio.Event()
        self._lanes: dict[str, Lane] = {}
        self._readers: set[Reader] = set()
        self._watches = Watches()
        self._replays = asyncio.Semaphore(REPLAYS_AT_ONCE)
        self._observers: list[Callable[[EventSubject], None]] = []
        self._arrivals = 0
        self.draining = False
        self.resets = 0
        self.fallen_behind = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, events: EventLog, *, buffer_frames: int) -> AsyncIterator[EventHub]:
        """Does not wait for the broker: see `live`."""
        hub = cls(events, buffer_frames=buffer_frames)
        feed = asyncio.create_task(hub._run(), name="event hub")
        try:
            yield hub
        finally:
            hub.drain()
            await concurrency.cancel_and_wait(feed)

    @property
    def live(self) -> bool:
        """Whether the stream of events was found."""
        return self._feed is not None

    @property
    def readers(self) -> int:
        return len(self._readers)

    @property
    def head(self) -> int:
        """Sequence up to which everything was passed on."""
        return self._feed.last if self._feed else 0

    @asynccontextmanager
    async def subscribe(
        self, org: str, wanted: Wanted, *, after: str | None
    ) -> AsyncIterator[Reader]:
        """A reader of the organisation's events from now on, or from the id `after` on.

        An id that cannot be resumed (too old, of another stream, not ours) makes the reader begin
        with a `reset` frame and the oldest event. Raises BusUnavailable.
        """
        reader = await self._reader(org, wanted, after)
        self._readers.add(reader)
        if self.draining:
            reader.dismiss("bye", STOPPING)
        try:
            yield reader
        finally:
            reader.close()
            self._readers.discard(reader)
            self.fallen_behind += reader.fallen_behind

    def watch(self, org: str, resource: str, id: str) -> AbstractContextManager[Watch]:
        """Enter it before the work is asked for, so that nothing is missed."""
        return self._watches.watch((org, resource, id))

    def observe(self, observer: Callable[[EventSubject], None]) -> None:
        """Call it for every event of any organisation. While the broker is away some are lost."""
        self._observers.append(observer)

    def drain(self) -> None:
        """Tell every reader to come back later and every waiter that the wait is over."""
        self.draining = True
        self._dismiss_all(STOPPING)
        self._watches.end()

    async def _run(self) -> None:
        while True:
            try:
                async with self._events.live(self._publish, self._begin) as feed:
                    self._feed = feed
                    self._begun.set()
                    await asyncio.Future()
            except YardError as error:
                log.warning("The events cannot be followed yet: %s", error.message)
                await asyncio.sleep(RETRY_S)

    def _begin(self) -> None:
        """The numbers do not continue: what is held cannot be resumed from."""
        self._dismiss_all("The events begin anew: reconnect.")
        self._lanes.clear()
        self._watches.wake_all()

    def _publish(self, event: StoredEvent) -> None:
        subject = _subject(event)
        if subject is None:
            return
        self._watches.wake((subject.org, subject.resource, subject.id))
        for observer in self._observers:
            observer(subject)
        lane = self._lanes.get(subject.org)
        if lane is not None:
            lane.append(_frame(self._epoch, event, subject))

    async def _reader(self, org: str, wanted: Wanted, after: str | None) -> Reader:
        if not await concurrency.comes_within(self._begun, OPEN_S):
            raise BusUnavailable("The events cannot be read at the moment: try again.")
        lane = None
        while lane is None or self._lanes.get(org) is not lane:
            # Anew when the stream began anew meanwhile: the lane is not fed any more.
            lane = await self._lane(org)
            start, reset = await self._start(lane, after)
        self._arrivals += 1
        wait_ms = RETRY_HINT_MS + SPREAD_MS * (self._arrivals % SPREAD_STEPS)
        opening = sse.opening_frame(start, retry_ms=wait_ms)
        if reset is not None:
            self.resets += 1
            opening += sse.control_frame("reset", {"reason": reset, "given": after}, at=start)
        return Reader(
            lane,
            wanted,
            replay=partial(self._replay, org),
            head=lambda: self.head,
            opening=opening,
            start=start,
        )

    async def _lane(self, org: str) -> Lane:
        lane = self._lanes.pop(org, None) or Lane(self.head, self._limit)
        self._lanes[org] = lane
        idle = [name for name, one in self._lanes.items() if not one.readers and one is not lane]
        for name in idle[:-IDLE_LANES]:
            del self._lanes[name]
        if not lane.filled:
            oldest = (await self._position()).first
            await lane.fill(partial(self._replay, org, most=self._limit), oldest)
        return lane

    async def _start(self, lane: Lane, after: str | None) -> tuple[EventId, str | None]:
        """Where to begin, and why not where the reader wanted to."""
        if after is None:
            return EventId(self._epoch, self.head), None
        wanted = sse.parse_id(after)
        if wanted and wanted.epoch == self._epoch and lane.floor <= wanted.sequence <= self.head:
            return wanted, None
        at = await self._position()
        reset = _reset(wanted, at)
        return (wanted, None) if wanted and not reset else (EventId(at.epoch, at.first - 1), reset)

    async def _replay(
        self, org: str, after: int, *, most: int = REPLAY_EVENTS
    ) -> tuple[list[Frame], int]:
        """Events after a sequence, and the one up to which they are all."""
        epoch, head = self._epoch, self.head
        async with self._replays:
            batch = await self._events.read_batch(
                topology.EVENTS.name, after=after, subject=topology.events_of(org), limit=most
            )
        known = [event for event in batch.messages if event.sequence <= head]
        frames = [_frame(epoch, event, subject) for event in known if (subject := _subject(event))]
        if batch.more and len(known) == len(batch.messages):
            return frames, known[-1].sequence
        return frames, max(head, after)

    async def _position(self) -> Position:
        try:
            return await self._events.position()
        except NotFound as error:
            raise BusUnavailable("The stream of events is missing: try again.") from error

    @property
    def _epoch(self) -> str:
        return self._feed.epoch if self._feed else ""

    def _dismiss_all(self, reason: str) -> None:
        for reader in self._readers:
            reader.dismiss("bye", reason)


def _subject(event: StoredEvent) -> EventSubject | None:
    try:
        return topology.parse_event(event.subject)
    except InvalidInput:
        log.warning("Event %d has the subject %r: passed over.", event.sequence, event.subject)
        return None


def _frame(epoch: str, event: StoredEvent, subject: EventSubject) -> Frame:
    data = sse.event_frame(EventId(epoch, event.sequence), subject, event.headers, event.data)
    return Frame(event.sequence, subject, data)


def _reset(wanted: EventId | None, at: Position) -> str | None:
    if wanted is None:
        return "unknown_id"
    if wanted.epoch != at.epoch:
        return "stream_recreated"
    if wanted.sequence < at.first - 1:
        return "expired"
    return "unknown_id" if wanted.sequence > at.last else None


T = TypeVar("T")

Key = tuple[str, str, str]
"""Organisation, resource, id."""


class Watch:
    """One wait for news about one record. It says when to look, not what is new."""

    def __init__(self) -> None:
        self._moved = asyncio.Event()
        self._over = False

    async def moved(self, timeout_s: float) -> bool:
        """True when an event came since the last call; False when none came in time."""
        if not await concurrency.comes_within(self._moved, timeout_s) or self._over:
            return False
        self._moved.clear()
        return True

    async def until(
        self,
        is_settled: Callable[[T], bool],
        seen: T,
        look: Callable[[T], Awaitable[T]],
        *,
        wait_s: float = math.inf,
        look_every_s: float = math.inf,
    ) -> T:
        """`seen` or what a later `look` shows, once it is settled; else the last look.

        That ends after `wait_s`, or when the process stops. The watch has to be open before the
        work is asked for: events say when to look, `look` says what is. It gets what was seen last.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + wait_s
        while not is_settled(seen) and not self._over and (left_s := end - loop.time()) > 0:
            await self.moved(min(left_s, look_every_s))
            seen = await look(seen)
        return seen

    def wake(self) -> None:
        self._moved.set()

    def end(self) -> None:
        self._over = True
        self._moved.set()


class Watches:
    """All that are open in this process, found by their record."""

    def __init__(self) -> None:
        self._open: dict[Key, set[Watch]] = {}
        self._over = False

    @contextmanager
    def watch(self, key: Key) -> Iterator[Watch]:
        watch = Watch()
        if self._over:
            watch.end()
        self._open.setdefault(key, set()).add(watch)
        try:
            yield watch
        finally:
            self._open[key].discard(watch)
            if not self._open[key]:
                del self._open[key]

    def wake(self, key: Key) -> None:
        for watch in self._open.get(key, ()):
            watch.wake()

    def wake_all(self) -> None:
        for key in self._open:
            self.wake(key)

    def end(self) -> None:
        """Every wait is over, also those to come."""
        self._over = True
        for watches in self._open.values():
            for watch in watches:
                watch.end()
