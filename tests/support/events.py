"""What a reader of events heard, with a way to wait for it."""

from __future__ import annotations

import asyncio

from pipeline.adapters.bus import StoredEvent

DEADLINE_S = 10


class Heard:
    def __init__(self) -> None:
        self.events: list[StoredEvent] = []
        self.resets = 0
        self._changed = asyncio.Event()

    @property
    def sequences(self) -> list[int]:
        return [event.sequence for event in self.events]

    def event(self, event: StoredEvent) -> None:
        self.events.append(event)
        self._changed.set()

    def reset(self) -> None:
        self.resets += 1

    async def until(self, count: int) -> None:
        """Wait until that many events were heard; TimeoutError after the deadline."""
        async with asyncio.timeout(DEADLINE_S):
            while len(self.events) < count:
                self._changed.clear()
                await self._changed.wait()
