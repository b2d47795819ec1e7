"""Taking messages from a durable, and answering them.

nats-py's own fetch (2.16) waits out its whole timeout when the consumer is deleted, and after a
reconnect, because it does not see that its request is gone. This one asks again at once, or says
what is missing.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from pipeline.adapters.bus.connection import FOREIGN, Connection, translated
from pipeline.adapters.bus.reading import StoredEvent, published
from pipeline.errors import BusUnavailable
from pipeline.topology import StagePlan

log = logging.getLogger(__name__)

EXPIRES_S = 30
HEARTBEAT_S = 5.0
"""While a request waits, the broker says so at this interval; two missed ones void it.
A stream that is deleted takes its consumers along without a word."""
DRAIN_S = 2
NANOSECONDS = 1_000_000_000

_NO_RESPONDERS, _TIMEOUT, _NONE, _CONFLICT, _ALIVE = "503", "408", "404", "409", "100"


class Pull:
    """One request at a time, for as many messages as there is room for."""

    def __init__(self, connection: Connection, plan: StagePlan, inbox: str) -> None:
        self._connection = connection
        self._plan = plan
        self._inbox = inbox
        self._asked = 0
        self._due = 0
        """Messages that the running request may still bring."""
        self._arrived: asyncio.Queue[tuple[float, Msg | None]] = asyncio.Queue()
        """With the time of arrival; None wakes the reader to ask again, or to end."""
        self._ended = False

    async def next(self, room: int) -> Msg | None:
        """Wait for one message; `room`, at least 1, is how many the caller can take on.

        None after `end`. Raises BusUnavailable; `facts["missing"]` names the durable when it does
        not exist.
        """
        while not self._ended:
            # A request made without a connection would be sent, too, once there is one again.
            if self._due <= 0 and self._arrived.empty() and self._connection.connected:
                await self._ask(room)
            arrived_s, message = await self._arrival()
            if message is None:
                self._due = 0
            elif (status := (message.headers or {}).get("Status")) and not message.reply:
                self._on_status(status, message)
            else:
                self._due -= 1
                if self._is_fresh(arrived_s):
                    return message
        return None

    def end(self) -> None:
        """Let the reader go; what has arrived is left over."""
        self._ended = True
        self._put(None)

    def left_over(self) -> list[Msg]:
        """Messages that arrived and were not taken: the caller hands them back."""
        left = []
        while not self._arrived.empty():
            _, message = self._arrived.get_nowait()
            if message is not None and message.reply:
                left.append(message)
        return left

    async def receive(self, message: Msg) -> None:
        self._put(message)

    def ask_again(self) -> None:
        self._put(None)

    async def _ask(self, room: int) -> None:
        self._asked += 1
        wanted = {
            "batch": room,
            "expires": EXPIRES_S * NANOSECONDS,
            "idle_heartbeat": int(HEARTBEAT_S * NANOSECONDS),
        }
        with translated():
            await self._connection.client.publish(
                f"$JS.API.CONSUMER.MSG.NEXT.{self._plan.stream.name}.{self._plan.durable}",
                json.dumps(wanted).encode(),
                reply=f"{self._inbox}.{self._asked}",
            )
        self._due = room

    def _put(self, message: Msg | None) -> None:
        self._arrived.put_nowait((asyncio.get_running_loop().time(), message))

    async def _arrival(self) -> tuple[float, Msg | None]:
        try:
            async with asyncio.timeout(2.5 * HEARTBEAT_S):
                return await self._arrived.get()
        except TimeoutError:
            return 0, None

    def _is_fresh(self, arrived_s: float) -> bool:
        """Whether a message still waits for us: one that lay here for too long is given away.

        It can lie here after a broker that stood still answers more than one request.
        """
        age_s = asyncio.get_running_loop().time() - arrived_s
        return age_s < self._plan.ack_wait_s / 2

    def _on_status(self, status: str, message: Msg) -> None:
        if status == _ALIVE or not message.subject.endswith(f".{self._asked}"):
            return
        self._due = 0
        if status in (_TIMEOUT, _NONE):
            return
        headers: Mapping[str, str] = message.headers or {}
        description = headers.get("Description", "")
        gone = status == _NO_RESPONDERS or "Deleted" in description
        raise BusUnavailable(
            f"The durable {self._plan.durable} gives nothing ({status} {description.strip()}).",
            missing=self._plan.durable if gone else None,
        )


Key = tuple[str, int, str]


@dataclass(slots=True)
class ReceivedMessage:
    """One delivery of a stored message, with the ways to answer it."""

    stream: str
    attempt: int
    """From 1."""
    message: StoredEvent
    raw: Msg
    """The newest delivery of the message: what is said through an older one may not count."""

    @classmethod
    def of(cls, raw: Msg) -> ReceivedMessage:
        about = raw.metadata
        message = StoredEvent(
            sequence=about.sequence.stream,
            subject=raw.subject,
            headers=published(raw.headers or {}),
            data=raw.data,
            time=about.timestamp,
        )
        return cls(about.stream, about.num_delivered, message, raw)

    @property
    def key(self) -> Key:
        """The same for every delivery of one message, and for no other message."""
        return self.stream, self.message.sequence, self.message.time.isoformat()

    async def ack(self) -> None:
        """It is done. Raises BusUnavailable; the message then comes again."""
        with translated():
            await self.raw.ack()

    async def nak(self, *, delay_s: float = 0) -> None:
        """To be delivered again, here or elsewhere. Raises BusUnavailable."""
        with translated():
            await self.raw.nak(delay=delay_s)

    async def in_progress(self) -> None:
        """The ack wait begins anew. Raises BusUnavailable."""
        with translated():
            await self.raw.in_progress()


@asynccontextmanager
async def pull(connection: Connection, plan: StagePlan) -> AsyncIterator[Pull]:
    """On leaving, everything that the broker had sent has arrived: see `Pull.left_over`."""
    opened = Pull(connection, plan, connection.client.new_inbox())
    with translated():
        subscription = await connection.client.subscribe(f"{opened._inbox}.*", cb=opened.receive)
    try:
        with connection.on_reconnect(opened.ask_again):
            yield opened
    finally:
        await _drain(connection, subscription)


async def _drain(connection: Connection, subscription: Subscription) -> None:
    """Stop deliveries and wait for those under way, so that they can be handed back."""
    if not connection.connected:
        return
    try:
        async with asyncio.timeout(DRAIN_S):
            await subscription.drain()  # type: ignore[no-untyped-call]
    except FOREIGN as error:
        log.warning("messages under way come back after their ack wait: %s", error)
