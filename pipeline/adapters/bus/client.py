"""The broker: NATS with JetStream. Every failure of it leaves here as an error of ours."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from pipeline import topology
from pipeline.adapters.bus import backlog, provisioning, reading, request_stream
from pipeline.adapters.bus import pull as pulling
from pipeline.adapters.bus.backlog import Backlog
from pipeline.adapters.bus.connection import Connection, connection, translated
from pipeline.adapters.bus.pull import Pull
from pipeline.adapters.bus.reading import Batch, Live, OnEvent, OnReset, Position, StoredEvent
from pipeline.adapters.bus.request_stream import Handler
from pipeline.errors import BusUnavailable, NotFound, TooLarge
from pipeline.telemetry import current_traceparent
from pipeline.topology import StagePlan, StreamPlan
from schemas.message import Message

PUBLISH_S = 5.0
ACK_S = 2.0
"""An ack that takes longer is taken for lost; the message id makes sending again harmless."""
PAUSES_S = (0.05, 0.1, 0.2, 0.5)
API_S = 5.0
HEADROOM = 256
"""Bytes of a message that are neither payload nor our headers."""


class Bus:
    """Safe for concurrent use within one event loop."""

    def __init__(self, connection: Connection, *, replicas: int) -> None:
        self._connection = connection
        self._replicas = replicas
        self._js: JetStreamContext = connection.client.jetstream(timeout=API_S)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, url: str, *, name: str, wait_s: float = 10, replicas: int = 1
    ) -> AsyncIterator[Bus]:
        """Connect, and stay connected: a lost broker is dialled until it is back.

        `url` may list several servers, separated by commas; `replicas` counts for streams that
        `prepare` creates. Raises BusUnavailable when no broker answers within `wait_s`, and
        Misconfigured when it refuses the login.
        """
        async with connection(url, name=name, wait_s=wait_s) as opened:
            yield cls(opened, replicas=replicas)

    @property
    def connected(self) -> bool:
        return self._connection.connected

    @property
    def client(self) -> Client:
        """For the worker's FastStream broker, which shares the connection."""
        return self._connection.client

    @property
    def max_payload(self) -> int:
        """Bytes of the largest message, headers included."""
        return self.client.max_payload

    async def ping(self, *, timeout_s: float = 2) -> None:
        """Raises BusUnavailable unless JetStream answers."""
        if not self.connected:
            raise BusUnavailable(f"NATS at {self._connection.address} does not answer.")
        with translated():
            await self.client.jsm(timeout=timeout_s).account_info()

    # --- streams and durables

    async def prepare(
        self,
        streams: Sequence[StreamPlan] = topology.STREAMS,
        stages: Sequence[StagePlan] = topology.DURABLES,
    ) -> None:
        """Create what is missing and update what changed. Idempotent, safe to run concurrently.

        What a newer release made stays as it is (`topology.VERSION`). Raises BusUnavailable, and
        Misconfigured when a stream of the same name serves another purpose.
        """
        with translated():
            for stream in streams:
                await provisioning.ensure_stream(self._js, stream, replicas=self._replicas)
            for stage in stages:
                await provisioning.ensure_durable(self._js, stage)

    async def prepare_stage(self, plan: StagePlan) -> None:
        """As `prepare`, for one durable and its stream."""
        await self.prepare((plan.stream,), (plan,))

    async def prepare_org(self, org: str) -> None:
        """As `prepare`, for what an organisation asks, and the reader of its past events."""
        for plan in (topology.intake(org), topology.org_reader(org)):
            await self.prepare_stage(plan)

    async def missing(
        self,
        streams: Sequence[StreamPlan] = topology.STREAMS,
        stages: Sequence[StagePlan] = topology.DURABLES,
    ) -> list[str]:
        """Names of streams and durables that are absent: not ready while there are any."""
        with translated():
            return await provisioning.missing(self._js, streams, stages)

    async def unroutable(self, stream: StreamPlan) -> list[str]:
        """Subjects of which a work queue holds messages and which no durable reads."""
        with translated():
            return await provisioning.unroutable(self._js, stream)

    async def asking(self) -> set[str]:
        """Organisations that have a stream to publish their commands into."""
        with translated():
            names = await provisioning.stream_names(self._js)
        prefix = topology.ASKED_STREAM
        return {name.removeprefix(prefix) for name in names if name.startswith(prefix)}

    async def backlogs(self, stream: StreamPlan, *, skipped: str = "") -> Sequence[Backlog]:
        """How much waits for each durable, but those whose name begins with `skipped`."""
        return await backlog.backlogs(self.client, self._js, stream, skipped)

    async def held(self, stream: StreamPlan, subject: str) -> int:
        """Messages of a subject in a stream."""
        return await backlog.stored_messages(self._js, stream, subject)

    async def asked(self) -> int:
        """Commands of organisations that are not taken in yet."""
        return await backlog.messages_of(self._js, topology.ASKED_STREAM)

    # --- messages

    async def publish(self, message: Message, *, timeout_s: float = PUBLISH_S) -> int:
        """Store a message and return its sequence in the stream.

        Inside the dedupe window a repeat returns the sequence of the first. Raises BusUnavailable
        after `timeout_s`; the message may then still have been stored.
        """
        headers = message.headers()
        if message.traceparent is None and (traceparent := current_traceparent()):
            headers["traceparent"] = traceparent
        return await self.publish_raw(message.subject, message.body(), headers, timeout_s=timeout_s)

    async def publish_raw(
        self, subject: str, data: bytes, headers: Mapping[str, str], *, timeout_s: float = PUBLISH_S
    ) -> int:
        """As `publish`, bytes and headers as given. Safe to repeat if they hold a message id."""
        self._refuse_too_large(data, headers)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        pauses_s = itertools.chain(PAUSES_S, itertools.repeat(PAUSES_S[-1]))
        while True:
            await self._connection.wait_connected(deadline - loop.time())
            try:
                within_s = max(min(ACK_S, deadline - loop.time()), 0.001)
                with translated():
                    ack = await self._js.publish(
                        subject, data, timeout=within_s, headers=dict(headers)
                    )
                return ack.seq
            except BusUnavailable:
                pause_s = next(pauses_s)
                if loop.time() + pause_s > deadline:
                    raise
            await asyncio.sleep(pause_s)

    def pull(self, plan: StagePlan) -> AbstractAsyncContextManager[Pull]:
        """Take messages from a durable, which `prepare` has made."""
        return pulling.pull(self._connection, plan)

    async def stored(self, stream: str, sequence: int) -> StoredEvent:
        """One message by its sequence. Raises NotFound when it is gone."""
        batch = await self.read_batch(stream, after=sequence - 1, subject=">", limit=1)
        if not batch.messages or batch.messages[0].sequence != sequence:
            raise NotFound(f"Message {sequence} is no longer in {stream}.")
        return batch.messages[0]

    async def read_batch(
        self, stream: str, *, after: int, subject: str, limit: int = reading.BATCH
    ) -> Batch:
        return await reading.read_batch(
            self.client, stream, after=after, subject=subject, limit=limit
        )

    async def delete_stored(self, stream: str, sequence: int) -> bool:
        """False when it was gone already."""
        try:
            with translated():
                return await self._js.delete_msg(stream, sequence)
        except NotFound:
            return False

    async def position(self, stream: StreamPlan = topology.EVENTS) -> Position:
        return await reading.position(self._js, stream)

    def read_stored(
        self, stream: str, subject: str, *, after: int = 0
    ) -> AsyncGenerator[StoredEvent, None]:
        """All that a stream holds of a subject behind a sequence, in order, to the present end."""
        return reading.read(self.client, stream, after=after, subject=subject)

    # --- events

    def live(
        self, on_event: OnEvent, on_reset: OnReset, *, after: int | None = None
    ) -> AbstractAsyncContextManager[Live]:
        """Call `on_event` once for every event of every organisation, in order, without gaps.

        Begins behind `after`, or with the next event. `on_reset` says that the numbers do not
        continue: the stream was made anew, or events that were missed are no longer kept.
        """
        return reading.follow(
            self._connection, self._js, topology.EVENTS, on_event, on_reset, after=after
        )

    # --- one request, many replies

    def request_stream(
        self, subject: str, payload: bytes, *, idle_s: float
    ) -> AsyncGenerator[bytes, None]:
        """Chunks in order until the other side ends; close it (`aclosing`) to stop that side.

        Raises BusUnavailable when nobody serves the subject or frames were lost, Timeout after
        `idle_s` without a sign of life, and whatever the handler raised, by its code.
        """
        return request_stream.request_stream(self.client, subject, payload, idle_s=idle_s)

    def serve_stream(self, subject: str, handler: Handler) -> AbstractAsyncContextManager[None]:
        """While open, answer requests with what `handler(payload)` yields.

        A handler is closed as soon as its reader has left or the context is.
        """
        return request_stream.serve_stream(self.client, subject, handler)

    @asynccontextmanager
    async def inbox(self) -> AsyncIterator[tuple[str, asyncio.Queue[bytes]]]:
        """A subject that only we listen to, and what arrives there meanwhile."""
        arrived: asyncio.Queue[bytes] = asyncio.Queue()

        async def receive(message: Msg) -> None:
            arrived.put_nowait(message.data)

        subject = self.client.new_inbox()
        with translated():
            subscription = await self.client.subscribe(subject, cb=receive)
        try:
            yield subject, arrived
        finally:
            if not self.client.is_closed:
                await subscription.unsubscribe()

    async def answer(self, inbox: str, data: bytes) -> None:
        """To whoever listens there; nobody knows whether it arrives."""
        self._refuse_too_large(data, {})
        with translated():
            await self.client.publish(inbox, data)

    def _refuse_too_large(self, data: bytes, headers: Mapping[str, str]) -> None:
        # The server closes the connection over a message above its limit, headers included.
        size = len(data) + sum(len(f"{name}: {headers[name]}\r\n".encode()) for name in headers)
        if size + HEADROOM > self.client.max_payload:
            raise TooLarge(f"A message of {size} bytes is larger than the broker accepts.")
