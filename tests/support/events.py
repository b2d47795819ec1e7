"""Events to publish, and what a reader of them heard."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from pipeline.adapters.bus import StoredEvent
from pipeline.rules import topology
from schemas.message import Message

DEADLINE_S = 10
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


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


def happened(number: int, *, org: str = "acme", **data: Any) -> Message:
    return Message(
        id=f"{org}-{number}",
        subject=topology.event(org, "image", f"i{number}", "created"),
        type="modelyard.image.created",
        time=AT,
        data={"id": f"i{number}"} | data,
    )
