"""The way of chunks from an agent to the workers: a stream of the broker, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from pipeline import topology
from pipeline.errors import Timeout
from pipeline.logs.chunks import LogBatch, LogOpened, LogOpening, LogPositions, SentChunk
from schemas.message import ID_HEADER

ANSWER_S: Final = 10.0
"""What was sent before is stored first; then a worker answers."""
BATCH_BYTES: Final = 900_000
HEADROOM: Final = 64 * 1024


class LogBroker(Protocol):
    """What is asked of `pipeline.adapters.bus.client.Bus`."""

    @property
    def max_payload(self) -> int: ...

    async def publish_raw(
        self, subject: str, data: bytes, headers: Mapping[str, str], *, timeout_s: float = 5
    ) -> int: ...

    def inbox(self) -> AbstractAsyncContextManager[tuple[str, asyncio.Queue[bytes]]]: ...


class LogSender:
    """One per process of an agent. Every call may raise BusUnavailable and may be repeated."""

    def __init__(self, broker: LogBroker, *, node: str, session: str) -> None:
        self._broker = broker
        self._node = node
        self._session = session
        self._sent = 0

    @property
    def batch_bytes(self) -> int:
        """Sum of `cost` of what one batch may hold."""
        return min(BATCH_BYTES, self._broker.max_payload - HEADROOM)

    async def open(self, engine_ids: Sequence[str]) -> dict[str, LogPositions]:
        """How far the output of these was sent by all sessions before, which count no more.

        Raises Timeout while no worker answers.
        """
        async with self._broker.inbox() as (reply, answers):
            opening = LogOpening(session=self._session, engine_ids=list(engine_ids), reply=reply)
            await self._publish(topology.log_opening(self._node), opening.model_dump_json(), reply)
            try:
                async with asyncio.timeout(ANSWER_S):
                    answer = await answers.get()
            except TimeoutError:
                raise Timeout("No worker says how far output was sent.", operation="logs") from None
        return LogOpened.model_validate_json(answer).positions

    async def send(self, chunks: Sequence[SentChunk]) -> None:
        """Returns when they are safe. A repeat must be of the same chunks."""
        batch = LogBatch.model_construct(session=self._session, chunks=list(chunks))
        name = f"{self._session}-{self._sent}"
        await self._publish(topology.log_batch(self._node), batch.model_dump_json(), name)
        self._sent += 1

    async def _publish(self, subject: str, text: str, name: str) -> None:
        await self._broker.publish_raw(subject, text.encode(), {ID_HEADER: name})


def cost(chunk: SentChunk) -> int:
    """Bytes that it takes in a message, at most: JSON may write two for one, and names."""
    return 2 * len(chunk.text.encode()) + 512
