"""What the containers of a node write, followed from the engine and sent on in chunks.

Memory is bounded: who waits to be sent is not read further, so that the engine keeps the rest.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Final

from pipeline import concurrency
from pipeline.containers import engine_plan
from pipeline.errors import ContainerMissing, YardError
from pipeline.logs.chunking import Chunker
from pipeline.logs.chunks import LogPositions, SentChunk
from pipeline.logs.sending import LogSender, cost
from pipeline.ports import Engine, EngineContainer

log = logging.getLogger(__name__)

TICK_S: Final = 0.1
ROOM_BYTES: Final = 256 * 1024
"""Of one container that may wait to be sent, as `cost` counts; beyond it is not read."""
RETRY_S: Final = 1.0
LAST_S: Final = 5.0
"""How long the removal of a container waits for its last output."""


class ContainerOutput:
    """Follows every container of ours on the engine, from where earlier agents stopped."""

    def __init__(
        self, engine: Engine, sender: LogSender, labels: Mapping[str, str], *, max_age_s: float
    ) -> None:
        self._engine = engine
        self._sender = sender
        self._labels = labels
        self._max_age = timedelta(seconds=max_age_s)
        self._followed: dict[str, _Followed] = {}
        self._has_opened = False
        self._busy = asyncio.Event()
        """Something is open or waits."""
        self._full = asyncio.Event()
        """Somebody waits for room."""

    async def run(self) -> None:
        """Until cancelled. What was not sent then is read again by the next agent."""
        try:
            await concurrency.gather_or_cancel(self._open(), self._keep_sending())
        finally:
            tasks = [each.task for each in self._followed.values()]
            self._followed.clear()
            self._has_opened = False
            await concurrency.run_to_completion(concurrency.cancel_and_wait(*tasks))

    def attend(self, engine_id: str, container: str, positions: LogPositions | None = None) -> None:
        """It may have something new to say: it was started, or found. Idempotent."""
        if not self._has_opened:
            return
        followed = self._followed.get(engine_id)
        if followed is None:
            chunker = Chunker(container, engine_id, positions or {})
            self._followed[engine_id] = _Followed(
                self._engine, engine_id, chunker, self._max_age, self._busy, self._full
            )
        else:
            followed.again.set()

    def found(self, seen: EngineContainer) -> None:
        """As `attend`, but nothing for one whose output was read to the end."""
        container = engine_plan.container_of(seen.labels)
        followed = self._followed.get(seen.id)
        is_read = followed and not seen.running and followed.read_run == seen.started_at
        if container and not is_read:
            self.attend(seen.id, container)

    async def drained(self, engine_id: str) -> None:
        """Returns when all that a container wrote, which has ended, is sent; or after `LAST_S`."""
        followed = self._followed.get(engine_id)
        if followed is None:
            return
        try:
            async with asyncio.timeout(LAST_S):
                await followed.ended.wait()
                await followed.empty.wait()
        except TimeoutError:
            log.warning("container %s is removed before all of its output was sent", engine_id)

    async def _open(self) -> None:
        while not self._has_opened:
            try:
                seen = await self._engine.list(self._labels)
                positions = await self._sender.open([each.id for each in seen])
            except YardError as error:
                log.warning("output of containers is not followed yet: %s", error.message)
                await asyncio.sleep(RETRY_S)
                continue
            self._has_opened = True
            for each in seen:
                if container := engine_plan.container_of(each.labels):
                    self.attend(each.id, container, positions.get(each.id))

    # --- sending

    async def _keep_sending(self) -> None:
        now = asyncio.get_running_loop().time
        while True:
            if not any(each.is_busy for each in self._followed.values()):
                self._busy.clear()
                await self._busy.wait()
            await concurrency.comes_within(self._full, TICK_S)
            self._full.clear()
            for each in self._followed.values():
                each.add(each.chunker.due(now()))
            while batch := self._batch():
                await self._deliver(batch)
            for id in [id for id, each in self._followed.items() if each.is_over]:
                del self._followed[id]

    def _batch(self) -> list[_Followed]:
        """Whose first chunk is next, in turns: one of each, then the second of each."""
        turns: list[_Followed] = []
        room, depth = self._sender.batch_bytes, 0
        waiting = [each for each in self._followed.values() if each.waiting]
        while waiting:
            for each in waiting:
                room -= cost(each.waiting[depth])
                if room < 0 and turns:
                    return turns
                turns.append(each)
            depth += 1
            waiting = [each for each in waiting if len(each.waiting) > depth]
        return turns

    async def _deliver(self, batch: Sequence[_Followed]) -> None:
        taken: dict[str, int] = {}
        chunks: list[SentChunk] = []
        for each in batch:
            depth = taken.get(each.engine_id, 0)
            chunks.append(each.waiting[depth])
            taken[each.engine_id] = depth + 1
        while True:
            try:
                await self._sender.send(chunks)
                break
            except YardError as error:
                log.warning("output of containers waits: %s", error.message)
                await asyncio.sleep(RETRY_S)
        for each in batch:
            each.pop()


class _Followed:
    """One container of the engine, and what waits to be sent of it."""

    def __init__(
        self,
        engine: Engine,
        engine_id: str,
        chunker: Chunker,
        max_age: timedelta,
        busy: asyncio.Event,
        full: asyncio.Event,
    ) -> None:
        self.engine_id = engine_id
        self.chunker = chunker
        self.waiting: deque[SentChunk] = deque()
        self.again = asyncio.Event()
        self.ended = asyncio.Event()
        """Its output was read to an end."""
        self.empty = asyncio.Event()
        """Nothing of it waits."""
        self.empty.set()
        self.read_run: datetime | None = None
        """When the run began whose output was read to its end."""
        self._engine = engine
        self._max_age = max_age
        self._busy = busy
        self._full = full
        self._room = asyncio.Event()
        self._waiting_bytes = 0
        self._now = asyncio.get_running_loop().time
        self.task = asyncio.create_task(self._follow(), name=f"output {engine_id[:12]}")

    @property
    def is_busy(self) -> bool:
        return self.chunker.is_open or bool(self.waiting)

    @property
    def is_over(self) -> bool:
        """It is gone, and all was sent."""
        return self.task.done() and not self.is_busy

    def add(self, chunks: Sequence[SentChunk]) -> None:
        for chunk in chunks:
            if chunk.text:
                self.waiting.append(chunk)
                self._waiting_bytes += cost(chunk)
                self.empty.clear()

    def pop(self) -> None:
        self._waiting_bytes -= cost(self.waiting.popleft())
        if self._waiting_bytes < ROOM_BYTES:
            self._room.set()
        if not self.waiting:
            self.empty.set()

    async def _follow(self) -> None:
        while True:
            self.again.clear()
            self.ended.clear()
            self.chunker.read_again()
            try:
                await self._read()
                seen = await self._engine.inspect(self.engine_id)
            except ContainerMissing:
                seen = None
            except YardError as error:
                log.warning("output of %s was cut: %s", self.engine_id[:12], error.message)
                await asyncio.sleep(RETRY_S)
                continue
            if seen is not None and seen.running:
                await asyncio.sleep(TICK_S)
                continue
            self.add(self.chunker.close())
            self._busy.set()
            self._full.set()
            self.read_run = None if seen is None else seen.started_at
            self.ended.set()
            if seen is None:
                return
            await self.again.wait()

    async def _read(self) -> None:
        pieces = self._engine.output(self.engine_id, since=self._since())
        async with aclosing(pieces):
            async for lines in pieces:
                for line in lines:
                    self.add(self.chunker.feed(line, self._now()))
                self._busy.set()
                while self._waiting_bytes >= ROOM_BYTES:
                    self._room.clear()
                    self._full.set()
                    await self._room.wait()

    def _since(self) -> datetime:
        since_ns = self.chunker.since_ns
        if since_ns is None:
            return datetime.now(UTC) - self._max_age
        return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=since_ns // 1000)
