"""Following the event stream: every event once, in order, as it is stored.

The broker publishes each stored event again with its sequence number (`StreamPlan.live`), so a
reader costs it no consumer. Core NATS may drop messages; the numbers show every gap, and gaps are
filled from the stream.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from nats.aio.msg import Msg
from nats.js import JetStreamContext

from pipeline import tasks
from pipeline.adapters.bus_connection import Connection
from pipeline.adapters.bus_errors import translated
from pipeline.adapters.bus_reading import StoredEvent, read, stored
from pipeline.errors import YardError
from pipeline.rules.topology import StreamPlan

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
            self.doubt()

    async def receive(self, message: Msg) -> None:
        self._arrived.append(stored(message.headers or {}, message.data))
        if len(self._arrived) > BUFFER:
            self._arrived.clear()
            self._suspect = True
        self._wake.set()

    def doubt(self) -> None:
        self._suspect = True
        self._wake.set()

    async def run(self) -> None:
        while True:
            try:
                await self._hand_over()
                async with asyncio.timeout(CHECK_S):
                    await self._wake.wait()
            except TimeoutError:
                # Even the newest event may be the one that was lost: nothing later shows the gap.
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
    with connection.on_reconnect(live.doubt), connection.on_slow(live.doubt):
        await live.start(after)
        task = asyncio.create_task(live.run(), name=f"follow {plan.name}")
        try:
            yield live
        finally:
            await tasks.end(task)
            if not connection.client.is_closed:
                await subscription.unsubscribe()


async def position(js: JetStreamContext, plan: StreamPlan) -> Position:
    """Raises NotFound when the stream does not exist."""
    with translated():
        info = await js.stream_info(plan.name)
    created: datetime | None = info.created
    epoch = "0" if created is None else f"{int(created.timestamp() * 1_000_000):x}"
    return Position(epoch, info.state.first_seq, info.state.last_seq)
