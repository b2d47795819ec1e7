"""Events to publish, and what a reader of them heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

from pipeline import topology
from pipeline.adapters.bus.client import Bus
from pipeline.adapters.bus.reading import StoredEvent
from pipeline.topology import StagePlan
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


def stored_events(bus: Bus, org: str | None, *, after: int = 0) -> AsyncGenerator[StoredEvent]:
    """Of one organisation, or of everybody for None."""
    return bus.read_stored(topology.EVENTS.name, topology.events_of(org), after=after)


async def remove_stage(bus: Bus, plan: StagePlan) -> None:
    """Delete the durable of a stage."""
    await bus.client.jetstream().delete_consumer(plan.stream.name, plan.durable)


def happened(number: int, *, org: str = "acme", **data: Any) -> Message:
    return Message(
        id=f"{org}-{number}",
        subject=topology.event(org, "image", f"i{number}", "created"),
        type="modelyard.image.created",
        time=AT,
        data={"id": f"i{number}"} | data,
    )
