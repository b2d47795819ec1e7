"""Reading a stream without a consumer: in batches by direct get, or along as events are stored.

The broker publishes each stored event again with its sequence number (`StreamPlan.live`), so a
reader costs it no consumer. Core NATS may drop messages; the numbers show every gap, and gaps are
filled from the stream.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import unquote

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from pipeline import concurrency
from pipeline.adapters.bus.connection import Connection, translated
from pipeline.errors import BusUnavailable, Timeout, YardError
from pipeline.topology import StreamPlan

BATCH = 256
BATCH_BYTES = 4 * 1024 * 1024
SILENCE_S = 5
"""A batch that stands still for this long is given up."""

_END, _NOTHING = "204", "404"


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One message as a stream keeps it."""

    sequence: int
    subject: str
    headers: Mapping[str, str]
    """As published; the broker's own `Nats-…` headers are left out, but for the message id."""
    data: bytes
    time: datetime

    def attributes(self) -> dict[str, str]:
        """Headers by their names in lower case, decoded as those of CloudEvents are."""
        return {name.lower(): unquote(value) for name, value in self.headers.items()}

    def happened_at(self) -> datetime:
        """When it says that it happened, else when it was stored."""
        try:
            told = datetime.fromisoformat(self.attributes()["ce-time"])
        except (KeyError, ValueError):
            return self.time
        return told if told.tzinfo else self.time


@dataclass(frozen=True, slots=True)
class Batch:
    messages: tuple[StoredEvent, ...]
    more: bool
    """Are there further ones that match?"""


async def read(
    client: Client, stream: str, *, after: int, subject: str
) -> AsyncGenerator[StoredEvent, None]:
    """Everything stored after a sequence that matches, in order, up to the present end.

    Holds one batch in memory. Raises BusUnavailable, also when the stream does not exist.
    """
    more = True
    while more:
        batch = await read_batch(client, stream, after=after, subject=subject)
        for message in batch.messages:
            yield message
            after = message.sequence
        more = batch.more


async def read_batch(
    client: Client, stream: str, *, after: int, subject: str, limit: int = BATCH
) -> Batch:
    """Up to `limit` messages, fewer when they are large."""
    wanted = {"seq": after + 1, "batch": limit, "max_bytes": BATCH_BYTES, "next_by_subj": subject}
    inbox = client.new_inbox()
    replies: asyncio.Queue[Msg] = asyncio.Queue()
    with translated():
        subscription = await client.subscribe(inbox, cb=replies.put)
        try:
            ask = json.dumps(wanted).encode()
            await client.publish(f"$JS.API.DIRECT.GET.{stream}", ask, reply=inbox)
            return await _collect(replies, stream)
        finally:
            if not client.is_closed:
                await subscription.unsubscribe()


async def _collect(replies: asyncio.Queue[Msg], stream: str) -> Batch:
    messages: list[StoredEvent] = []
    while True:
        try:
            async with asyncio.timeout(SILENCE_S):
                reply = await replies.get()
        except TimeoutError:
            raise Timeout(f"Reading {stream} stood still: try again.", operation="read") from None
        headers = reply.headers or {}
        status = headers.get("Status")
        if status is None:
            messages.append(stored(headers, reply.data))
        elif status in (_END, _NOTHING):
            return Batch(tuple(messages), more=int(headers.get("Nats-Num-Pending", 0)) > 0)
        else:
            raise BusUnavailable(
                f"The stream {stream} cannot be read ({status}): does it exist?",
                missing=stream if status == "503" else None,
            )


def stored(headers: Mapping[str, str], data: bytes) -> StoredEvent:
    """From the headers that the broker adds to direct gets and to what it publishes again."""
    return StoredEvent(
        sequence=int(headers["Nats-Sequence"]),
        subject=headers["Nats-Subject"],
        headers=published(headers),
        data=data,
        time=datetime.fromisoformat(headers["Nats-Time-Stamp"]),
    )


def published(headers: Mapping[str, str]) -> dict[str, str]:
    """What the publisher had set."""
    return {
        name: value
        for name, value in headers.items()
        if not name.startswith("Nats-") or name == "Nats-Msg-Id"
    }


log = logging.getLogger(__name__)

BUFFER = 10_000
"""Events that may wait while a gap is filled; beyond it they are read from the stream again."""
CHECK_S = 15
RETRY_S = 0.5

OnEvent = Callable[[StoredEvent], None]
OnReset = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Position:
    """Where a stream begins and ends. `epoch` changes when the stream is made anew."""

    epoch: str
    first: int
    last: int


class Live:
    """A running subscription. `last` is the sequence of the last event that was handed over."""

    def __init__(
        self,
        connection: Connection,
        js: JetStreamContext,
        plan: StreamPlan,
        on_event: OnEvent,
        on_reset: OnReset,
    ) -> None:
        self.last = 0
        self.epoch = ""
        self._connection = connection
        self._js = js
        self._plan = plan
        self._on_event = on_event
        self._on_reset = on_reset
        self._arrived: deque[StoredEvent] = deque()
        self._wake = asyncio.Event()
        self._suspect = False
        """True while something may have been missed."""
        self._newest = datetime.min.replace(tzinfo=UTC)

    async def start(self, after: int | None) -> None:
        at = await position(self._js, self._plan)
        self.epoch = at.epoch
        if after is None:
            self.last = at.last
        else:
            self.last = after
            self.suspect_gap()

    async def receive(self, message: Msg) -> None:
        self._arrived.append(stored(message.headers or {}, message.data))
        if len(self._arrived) > BUFFER:
            self._arrived.clear()
            self._suspect = True
        self._wake.set()

    def suspect_gap(self) -> None:
        self._suspect = True
        self._wake.set()

    async def run(self) -> None:
        while True:
            try:
                await self._hand_over()
                if not await concurrency.comes_within(self._wake, CHECK_S):
                    # Even the newest event may be one that was lost: nothing later shows the gap.
                    self._suspect = True
            except YardError as error:
                log.warning("following %s: %s", self._plan.name, error.message)
                await asyncio.sleep(RETRY_S)
            self._wake.clear()

    async def _hand_over(self) -> None:
        while self._suspect or self._arrived:
            if self._suspect:
                await self._catch_up()
                continue
            event = self._arrived.popleft()
            if event.sequence == self.last + 1:
                self._deliver(event)
            elif event.sequence > self.last or event.time > self._newest:
                # A gap, or old numbers on new events: a stream made anew.
                await self._catch_up()
                self._newest = max(self._newest, event.time)

    async def _catch_up(self) -> None:
        """Read from the stream whatever came after the last event."""
        self._suspect = False
        try:
            at = await position(self._js, self._plan)
            if at.epoch != self.epoch or at.first > self.last + 1 or at.last < self.last:
                self._restart(at)
            if at.last > self.last:
                await self._read_on()
        except BaseException:
            self._suspect = True
            raise
        # Deleted messages leave numbers that will never come.
        self.last = max(self.last, at.last)

    def _restart(self, at: Position) -> None:
        self.epoch = at.epoch
        self.last = max(at.first - 1, 0)
        self._on_reset()

    async def _read_on(self) -> None:
        client, plan = self._connection.client, self._plan
        async for event in read(client, plan.name, after=self.last, subject=plan.subjects[0]):
            self._deliver(event)

    def _deliver(self, event: StoredEvent) -> None:
        self.last = event.sequence
        self._newest = event.time
        try:
            self._on_event(event)
        except Exception:
            log.exception("a reader of %s failed", self._plan.name)


@asynccontextmanager
async def follow(
    connection: Connection,
    js: JetStreamContext,
    plan: StreamPlan,
    on_event: OnEvent,
    on_reset: OnReset,
    *,
    after: int | None,
) -> AsyncIterator[Live]:
    """See `Bus.live`. Raises NotFound when the stream does not exist, and BusUnavailable."""
    live = Live(connection, js, plan, on_event, on_reset)
    with translated():
        subscription = await connection.client.subscribe(f"{plan.live}.>", cb=live.receive)
    with connection.on_reconnect(live.suspect_gap), connection.on_slow(live.suspect_gap):
        await live.start(after)
        task = asyncio.create_task(live.run(), name=f"follow {plan.name}")
        try:
            yield live
        finally:
            await concurrency.cancel_and_wait(task)
            if not connection.client.is_closed:
                await subscription.unsubscribe()


async def position(js: JetStreamContext, plan: StreamPlan) -> Position:
    """Raises NotFound when the stream does not exist."""
    with translated():
        info = await js.stream_info(plan.name)
    created: datetime | None = info.created
    epoch = "0" if created is None else f"{int(created.timestamp() * 1_000_000):x}"
    return Position(epoch, info.state.first_seq, info.state.last_seq)
