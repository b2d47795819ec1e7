"""How much waits in the streams, and for how long: what monitoring asks the broker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from nats.aio.client import Client
from nats.js import JetStreamContext

from pipeline.adapters.bus.connection import translated
from pipeline.adapters.bus.reading import read_batch
from pipeline.topology import StreamPlan


@dataclass(frozen=True, slots=True)
class Backlog:
    """Of one durable."""

    durable: str
    waiting: int
    """Messages that nobody has been given."""
    in_progress: int
    """Messages that somebody has and did not settle."""
    oldest_s: float
    """Since the oldest of either was stored; 0 without any."""


async def backlogs(
    client: Client, js: JetStreamContext, stream: StreamPlan, skipped: str = ""
) -> Sequence[Backlog]:
    """Of every durable of a stream but those whose name begins with `skipped`.

    The oldest message is looked for only where there is one. Raises BusUnavailable, NotFound.
    """
    found = []
    for info in await _consumers(js, stream.name):
        if skipped and info.name.startswith(skipped):
            continue
        waiting, in_progress = info.num_pending or 0, info.num_ack_pending or 0
        oldest_s = await _oldest_s(client, stream, info) if waiting or in_progress else 0.0
        found.append(Backlog(info.name, waiting, in_progress, oldest_s))
    return found


async def stored_messages(js: JetStreamContext, stream: StreamPlan, subject: str) -> int:
    """How many messages of a subject a stream holds. Raises BusUnavailable, NotFound."""
    with translated():
        info = await js.stream_info(stream.name, subjects_filter=subject)
    return sum((info.state.subjects or {}).values())


async def messages_of(js: JetStreamContext, prefix: str) -> int:
    """How many messages all streams hold together whose name begins so. Raises BusUnavailable."""
    total = seen = 0
    with translated():
        while page := await js.streams_info(offset=seen):
            seen += len(page)
            mine = (each for each in page if str(each.config.name).startswith(prefix))
            total += sum(each.state.messages for each in mine)
    return total


async def _consumers(js: JetStreamContext, stream: str) -> list[Any]:
    found: list[Any] = []
    with translated():
        while page := await js.consumers_info(stream, offset=len(found)):
            found += page
    return found


async def _oldest_s(client: Client, stream: StreamPlan, info: Any) -> float:
    after = info.ack_floor.stream_seq if info.ack_floor else 0
    subject = info.config.filter_subject or ">"
    batch = await read_batch(client, stream.name, after=after, subject=subject, limit=1)
    if not batch.messages:
        return 0.0
    return max((datetime.now(UTC) - batch.messages[0].time).total_seconds(), 0.0)
