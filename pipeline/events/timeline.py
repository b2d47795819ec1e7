"""What happened to one record, from its submission on: its events as the stream keeps them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from pipeline import topology
from pipeline.adapters.bus.reading import StoredEvent
from pipeline.adapters.store.store import Store
from pipeline.errors import BusUnavailable, InvalidInput, NotFound
from pipeline.events.hub import EventLog
from pipeline.events.sse import EventId
from schemas.base import Record
from schemas.message import Timeline, TimelineEvent

CURSOR: Final = r"^[0-9]{1,19}-[0-9]{1,15}-[0-9]{1,15}-[01]$"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


class Timelines:
    """Reads the stream of events by the subject of a record: it costs no consumer."""

    def __init__(self, events: EventLog, store: Store) -> None:
        self._events = events
        self._store = store

    async def read(
        self, org: str, kind: type[Record], id: str, *, limit: int, cursor: str | None = None
    ) -> Timeline:
        """At most `limit` events, fewer when they are large; `next` tells whether there are more.

        Raises NotFound when there is neither such a record nor an event of one, InvalidInput for a
        cursor that is not ours, and BusUnavailable.
        """
        page = _Page.parse(cursor)
        subject = topology.events_of(org, kind.resource, id)
        try:
            at = await self._events.position()
        except NotFound as error:
            raise BusUnavailable("The stream of events is missing: try again.") from error
        after = page.after if page else 0
        batch = await self._events.read_batch(
            topology.EVENTS.name, after=after, subject=subject, limit=limit
        )
        if not batch.messages and page is None:
            # Raises NotFound; of what stands still for long no event is kept.
            await self._store.get(kind, id, org=org)
        events = list(_told(batch.messages, page))
        complete = page.complete if page else _is_first(events)
        last = events[-1].sequence if events else max(after, at.last)
        return Timeline(
            resource=kind.resource,
            id=id,
            complete=complete,
            events=events,
            resume=str(EventId(at.epoch, last)),
            next=str(_Page.after_these(events, page, complete)) if batch.more else None,
        )


class _Page(NamedTuple):
    """What the pages before have shown."""

    after: int
    first_ms: int
    last_ms: int
    complete: bool

    @classmethod
    def parse(cls, cursor: str | None) -> _Page | None:
        if cursor is None:
            return None
        if not re.fullmatch(CURSOR, cursor):
            raise InvalidInput(
                "This cursor is not one that we gave out: start at the first page.", field="cursor"
            )
        after, first_ms, last_ms, complete = map(int, cursor.split("-"))
        return cls(after, first_ms, last_ms, bool(complete))

    @classmethod
    def after_these(
        cls, events: Sequence[TimelineEvent], page: _Page | None, complete: bool
    ) -> _Page:
        first_ms = page.first_ms if page else _ms(events[0].time)
        return cls(events[-1].sequence, first_ms, _ms(events[-1].time), complete)

    def __str__(self) -> str:
        return f"{self.after}-{self.first_ms}-{self.last_ms}-{self.complete:d}"


def _told(events: Sequence[StoredEvent], page: _Page | None) -> Iterator[TimelineEvent]:
    first_ms, last_ms = (page.first_ms, page.last_ms) if page else (None, None)
    for event in events:
        headers = event.attributes()
        time = event.happened_at()
        now_ms = _ms(time)
        first_ms = now_ms if first_ms is None else first_ms
        last_ms = now_ms if last_ms is None else last_ms
        yield TimelineEvent(
            id=headers.get("ce-id"),
            sequence=event.sequence,
            kind=topology.parse_event(event.subject).kind,
            time=time,
            actor=headers.get("ce-actor"),
            causation_id=headers.get("ce-causationid"),
            # Machines whose clocks differ may tell of a later event an earlier time.
            elapsed_s=max(now_ms - first_ms, 0) / 1000,
            since_previous_s=max(now_ms - last_ms, 0) / 1000,
            data=_data(event),
        )
        last_ms = now_ms


def _data(event: StoredEvent) -> Any:
    try:
        return json.loads(event.data or b"{}")
    except ValueError:
        return event.data.decode(errors="replace")


def _is_first(events: Sequence[TimelineEvent]) -> bool:
    """Whether nothing happened before: a record begins with revision 1."""
    data = events[0].data if events else None
    return isinstance(data, dict) and data.get("revision") == 1


def _ms(time: datetime) -> int:
    return (time - _EPOCH) // _MILLISECOND
