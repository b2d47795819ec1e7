"""Reads an iterator ahead, so that its reader also notices silence and the end of the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from types import TracebackType
from typing import Generic, Self, TypeVar

from pipeline import tasks

T = TypeVar("T")

AHEAD = 256


class Pump(Generic[T]):
    """An async context manager; leaving it ends the reading."""

    def __init__(self, source: AsyncGenerator[T], stop: asyncio.Event) -> None:
        self.ended = False
        """True once `take` has returned the last items."""
        self.cut = False
        """True when it ended because `stop` was set, not because the source did."""
        self._source = source
        self._stop = stop
        self._items: list[T] = []
        self._moved = asyncio.Event()
        self._room = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._reading = asyncio.create_task(self._read())
        self._stopped = asyncio.create_task(self._stop.wait())
        for task in (self._reading, self._stopped):
            task.add_done_callback(lambda _: self._moved.set())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await tasks.end(self._reading, self._stopped)

    async def take(self, timeout_s: float) -> list[T]:
        """What has arrived; empty when nothing came in time. Raises what the source raises."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._moved.wait()
        except TimeoutError:
            return []
        items, self._items = self._items, []
        self._moved.clear()
        self._room.set()
        if self._stopped.done():
            self.ended = self.cut = True
        elif self._reading.done() and not items:
            self.ended = True
            self._reading.result()
        elif self._reading.done():
            self._moved.set()
        return items

    async def _read(self) -> None:
        async with aclosing(self._source) as source:
            async for item in source:
                self._items.append(item)
                self._moved.set()
                if len(self._items) >= AHEAD:
                    self._room.clear()
                    await self._room.wait()
