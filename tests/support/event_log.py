"""An event stream in memory that speaks the part of the broker which the event hub uses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from pipeline import topology
from pipeline.adapters.bus.reading import Batch, Position, StoredEvent
from pipeline.errors import BusUnavailable

AT = datetime(2026, 5, 1, tzinfo=UTC)


class FakeEventLog:
    """`down` makes every call fail, `lose` keeps an event from the live feed, `reads` counts."""

    def __init__(self) -> None:
        self.epoch = "e1"
        self.first = 1
        self.last = 0
        self.down = False
        self.reads = 0
        self._stored: list[StoredEvent] = []
        self._live: SimpleNamespace | None = None
        self.opened = asyncio.Event()

    async def position(self) -> Position:
        self._require_up()
        return Position(self.epoch, self.first, self.last)

    async def read_batch(self, stream: str, *, after: int, subject: str, limit: int = 256) -> Batch:
        self._require_up()
        self.reads += 1
        await asyncio.sleep(0)
        prefix = subject.removesuffix(">")
        found = [e for e in self._stored if e.sequence > after and e.subject.startswith(prefix)]
        return Batch(tuple(found[:limit]), more=len(found) > limit)

    @asynccontextmanager
    async def live(
        self, on_event: Any, on_reset: Any, *, after: int | None = None
    ) -> AsyncIterator[Any]:
        self._require_up()
        self._live = SimpleNamespace(
            epoch=self.epoch, last=self.last, on_event=on_event, on_reset=on_reset
        )
        self.opened.set()
        yield self._live

    def happen(
        self,
        kind: str = "created",
        *,
        org: str = "acme",
        resource: str = "image",
        id: str = "i1",
        **data: Any,
    ) -> StoredEvent:
        """Store one event and hand it to the live feed."""
        self.last += 1
        event = StoredEvent(
            sequence=self.last,
            subject=topology.event(org, resource, id, kind),
            headers={"ce-id": f"ce-{self.last}", "ce-type": f"modelyard.{resource}.{kind}"},
            data=json.dumps(data).encode(),
            time=AT,
        )
        self._stored.append(event)
        if self._live is not None:
            self._live.last = event.sequence
            self._live.on_event(event)
        return event

    def expire(self, first: int) -> None:
        """Retention takes everything before `first`."""
        self.first = first
        self._stored = [event for event in self._stored if event.sequence >= first]

    def recreate(self, epoch: str) -> None:
        """The stream is deleted and made anew."""
        self.epoch, self.first, self.last, self._stored = epoch, 1, 0, []
        assert self._live is not None
        self._live.epoch, self._live.last = epoch, 0
        self._live.on_reset()

    def _require_up(self) -> None:
        if self.down:
            raise BusUnavailable("NATS does not answer.")
