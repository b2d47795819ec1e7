"""Sends what a write decided: messages wait in their record until the broker has them.

Store and broker never commit together. A message is written with the change that it is about,
published, and then taken out of the record. A crash between any two of these leaves it there for
the sweep, and its id makes a second publish of it the same message.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from datetime import datetime
from types import TracebackType
from typing import Protocol, Self

from pipeline.adapters.store import Store
from pipeline.errors import InvalidInput, TooLarge, YardError
from schemas.base import Record
from schemas.message import Message

log = logging.getLogger(__name__)

PUBLISH_S = 2.0
"""How long a caller waits for a broker that is away, before the message is left to the sweep."""
LINGER_S = 0.01
"""How long marks wait for each other: one update then serves many records."""
SWEPT_AT_ONCE = 100
REMEMBERED = 4096


class Publisher(Protocol):
    async def publish(self, message: Message, *, timeout_s: float = ...) -> int:
        """Returns the stream sequence once the broker has it for good."""
        ...


class Outbox:
    """Use it as an async context manager, or close it: marks are written in the background."""

    def __init__(self, store: Store, bus: Publisher) -> None:
        self._store = store
        self._bus = bus
        self._published: dict[tuple[str, str], None] = {}
        self._unmarked: dict[type[Record], dict[str, list[str]]] = {}
        self._marker: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def send(self, record: Record) -> bool:
        """Publish what waits in `record`, in order. False when something is left.

        Never fails for want of a broker: the record is stored, so what could not be published now
        is published by a sweep.
        """
        sent: list[str] = []
        try:
            return await self._publish(record, sent)
        finally:
            self._mark_later(record, sent)

    async def sweep(self, kinds: Iterable[type[Record]], before: datetime) -> int:
        """Publish messages older than `before` that are still in their records.

        Returns how many records it emptied; stops early when the broker fails. Safe to run in
        several processes at once. Raises StoreUnavailable.
        """
        swept = 0
        for kind in kinds:
            while True:
                found = await self._store.unsent(kind, before=before, limit=SWEPT_AT_ONCE)
                emptied = await self._sweep(kind, found)
                swept += emptied
                if emptied < len(found):
                    return swept
                if len(found) < SWEPT_AT_ONCE:
                    break
        return swept

    def delivered(self, message: Message) -> None:
        """Note that a message reached us, so that its record does not have it published again.

        Messages of a record are published in order: those before it were published as well.
        """
        self._published[_key(message)] = None
        while len(self._published) > REMEMBERED:
            del self._published[next(iter(self._published))]

    async def close(self) -> None:
        """Returns when every mark is written or given up. Idempotent."""
        if self._marker is not None:
            await self._marker

    async def _publish(self, record: Record, sent: list[str]) -> bool:
        """Adds the ids of what the broker has to `sent`. False when something is left."""
        known = self._known(record.outbox)
        sent += [message.id for message in record.outbox[:known]]
        for message in record.outbox[known:]:
            try:
                await self._bus.publish(message, timeout_s=PUBLISH_S)
            except (TooLarge, InvalidInput) as error:
                # It would hold up the others for ever; the record itself says what happened.
                log.error("%s cannot be published and is dropped: %s", message.id, error.message)
            except YardError as error:
                # What follows must not overtake it.
                log.warning("%s waits in its outbox: %s", message.id, error.message)
                return False
            self.delivered(message)
            sent.append(message.id)
        return True

    def _known(self, outbox: Sequence[Message]) -> int:
        """How many messages, from the first, are published already."""
        last = len(outbox)
        while last and _key(outbox[last - 1]) not in self._published:
            last -= 1
        return last

    def _mark_later(self, record: Record, sent: list[str]) -> None:
        if not sent:
            return
        self._unmarked.setdefault(type(record), {}).setdefault(record.uuid, []).extend(sent)
        if self._marker is None or self._marker.done():
            self._marker = asyncio.create_task(self._mark(), name="outbox marker")

    async def _mark(self) -> None:
        while self._unmarked:
            await asyncio.sleep(LINGER_S)
            batch, self._unmarked = self._unmarked, {}
            for kind, ids in batch.items():
                try:
                    await self._store.mark_all_sent(kind, ids)
                except YardError as error:
                    # The sweep publishes them once more, which the broker drops, and marks them.
                    log.warning("%d records keep sent messages: %s", len(ids), error.message)

    async def _sweep(self, kind: type[Record], records: Sequence[Record]) -> int:
        sent: dict[str, list[str]] = {record.uuid: [] for record in records}
        emptied = await asyncio.gather(
            *(self._publish(record, sent[record.uuid]) for record in records)
        )
        if marks := {uuid: ids for uuid, ids in sent.items() if ids}:
            await self._store.mark_all_sent(kind, marks)
        return sum(emptied)


def _key(message: Message) -> tuple[str, str]:
    # Strangers choose the ids of what they publish; they do not choose every subject.
    return message.subject, message.id
