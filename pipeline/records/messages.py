"""Messages about a record: made with the write that decides them, then sent from its outbox.

Store and broker never commit together. A message is written with the change that it is about,
published, and then taken out of the record. A crash between any two of these leaves it there for
the sweep, and its id makes a second publish of it the same message.
"""

from __future__ import annotations

import asyncio
import logging
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Protocol, TypeAlias

from pipeline import topology
from pipeline.adapters.store.store import Store
from pipeline.errors import InvalidInput, TooLarge, YardError
from pipeline.telemetry import EVENTS, count
from schemas.base import Record
from schemas.message import Message

Draft: TypeAlias = Callable[[Any, datetime, str | None], Message]
"""Makes a message from a record as a write leaves it, the time of the write and who caused it.

Its id must follow from the record, its revision and the kind: the same fact is the same message.
"""


def event(kind: str, **facts: Any) -> Draft:
    """What happened to a record: what all its events tell (`Record.event_facts`), and `facts`."""

    def draft(record: Record, at: datetime, actor: str | None) -> Message:
        told = {"id": record.uuid, "org": record.org, "revision": record.revision}
        return Message(
            id=f"{record.uuid}.{record.revision}.{kind}",
            subject=topology.event(record.org, record.resource, record.uuid, kind),
            type=f"modelyard.{record.resource}.{kind}",
            time=at,
            actor=actor,
            data=told | record.event_facts() | facts,
        )

    return draft


def command(verb: str, **facts: Any) -> Draft:
    """An order about a record to the workers. It carries the id; the handler loads the rest."""

    def draft(record: Record, at: datetime, actor: str | None) -> Message:
        return Message(
            id=f"{record.uuid}.{record.revision}.cmd-{verb}",
            subject=topology.command(record.org, record.resource, verb),
            type=f"modelyard.cmd.{record.resource}.{verb}",
            time=at,
            actor=actor,
            data={"id": record.uuid} | facts,
        )

    return draft


EventView: TypeAlias = Callable[..., Mapping[str, Any]]
"""Members for the data of an event, made of the records that it is about. Does no I/O."""

_views: dict[str, EventView] = {}


def register_view(name: str, place: str) -> None:
    """What a door adds to the events of the core, loaded from `package.module:function`.

    The contract of a door may demand that events carry what the door shows. Workers write the
    events and the core knows no door, so `pipeline.bootstrap` names the views. Every process that
    writes events loads them: the module must be light. Idempotent; raises ImportError,
    AttributeError.
    """
    _views[name] = pkgutil.resolve_name(place)


def view(name: str, *records: Any) -> Mapping[str, Any]:
    """What the view of that name adds; nothing when there is none."""
    found = _views.get(name)
    return {} if found is None else found(*records)


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


class Outbox(AbstractAsyncContextManager["Outbox", None]):
    """Use it as an async context manager, or close it: marks are written in the background.

    Without a bus everything is left to the sweep of a process that has one.
    """

    def __init__(self, store: Store, bus: Publisher | None) -> None:
        self._store = store
        self._bus = bus
        self._published: dict[tuple[str, str], None] = {}
        self._unmarked: dict[type[Record], dict[str, list[str]]] = {}
        self._marker: asyncio.Task[None] | None = None

    async def __aexit__(self, *_: object) -> None:
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

    async def tell(self, message: Message) -> None:
        """Publish what no write has decided. It is lost while the broker is away."""
        if self._bus is None:
            return
        try:
            await self._bus.publish(message, timeout_s=PUBLISH_S)
            _count(message)
        except YardError as error:
            log.warning("%s is not told: %s", message.id, error.message)

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
        if self._bus is None:
            return not record.outbox
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
            _count(message)
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
                    await self._store.clear_outbox(kind, ids)
                except YardError as error:
                    # The sweep publishes them once more, which the broker drops, and marks them.
                    log.warning("%d records keep sent messages: %s", len(ids), error.message)

    async def _sweep(self, kind: type[Record], records: Sequence[Record]) -> int:
        sent: dict[str, list[str]] = {record.uuid: [] for record in records}
        emptied = await asyncio.gather(
            *(self._publish(record, sent[record.uuid]) for record in records)
        )
        if marks := {uuid: ids for uuid, ids in sent.items() if ids}:
            await self._store.clear_outbox(kind, marks)
        return sum(emptied)


def _count(message: Message) -> None:
    if message.subject.startswith("yard.evt."):
        subject = topology.parse_event(message.subject)
        count(EVENTS, subject.resource, subject.kind)


def _key(message: Message) -> tuple[str, str]:
    # Strangers choose the ids of what they publish; they do not choose every subject.
    return message.subject, message.id
