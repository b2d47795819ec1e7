"""Reading a stream without a consumer: batches by direct get, which leave nothing on the broker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import datetime

from nats.aio.client import Client
from nats.aio.msg import Msg

from pipeline.adapters.bus_errors import translated
from pipeline.errors import BusUnavailable, Timeout

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
    wanted = {
        "seq": after + 1,
        "batch": limit,
        "max_bytes": BATCH_BYTES,
        "next_by_subj": subject,
    }
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
