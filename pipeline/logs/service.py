"""What containers wrote, as it is kept: also of those that are gone or whose node is away."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from pipeline.adapters.store.documents import Document
from pipeline.adapters.store.log_chunks import LogChunks, Place, Wanted
from pipeline.adapters.store.store import Store
from pipeline.errors import InvalidInput
from pipeline.logs.chunks import LogChunk, LogPosition, StreamName
from pipeline.logs.intake import LogIntake
from pipeline.logs.retention import LogRetention
from pipeline.records.kernel import Records
from pipeline.records.queries import MOST, Page
from pipeline.settings import Settings
from schemas.access import Principal

LOOK_S: Final = 0.3
"""Between two looks of somebody who follows."""
BATCH: Final = 500
_CURSOR: Final = re.compile(r"([0-9]{1,19})-([0-9]{1,19})-([0-9a-f]{32})")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFilter:
    """What is None is not asked for. All of it must hold."""

    container: str | None = None
    """uuid of a Container: all its runs, on whatever nodes."""
    engine_id: str | None = None
    """One run of it."""
    node: str | None = None
    stream: StreamName | None = None
    contains: str | None = None
    """Plain text, found within one chunk."""
    since: datetime | None = None
    """Inclusive, as is `until`: times of the engine."""
    until: datetime | None = None


class StoredLogs:
    """Callers see the output of their own organisation's containers, and nothing of others'."""

    def __init__(self, store: Store) -> None:
        self._chunks = LogChunks(store)

    async def list(
        self, caller: Principal, which: LogFilter, *, limit: int = 100, cursor: str | None = None
    ) -> Page[LogChunk]:
        """Newest first. With `contains` a page may be short, even empty, and have a next one.

        Raises InvalidInput, StoreUnavailable.
        """
        if not 1 <= limit <= MOST:
            raise InvalidInput(f"limit must be between 1 and {MOST}.", field="limit")
        before = _place(cursor) if cursor else None
        found, place = await self._chunks.newest(_wanted(caller, which), before=before, limit=limit)
        return Page([_chunk(each) for each in found], _cursor(place) if place else None)

    async def last(
        self, caller: Principal, container: str, *, lines: int | None, since: datetime | None
    ) -> Sequence[LogChunk]:
        """The end of what a container wrote, so many lines of it, oldest first; None: all of it.

        Raises StoreUnavailable.
        """
        which = LogFilter(container=container, since=since)
        found: list[LogChunk] = []
        cursor: str | None = None
        while lines is None or lines > 0:
            page = await self.list(caller, which, limit=MOST, cursor=cursor)
            for chunk in page.items:
                kept = chunk.text if lines is None else _last_lines(chunk.text, lines)
                found.append(chunk.model_copy(update={"text": kept}))
                if lines is not None and (lines := lines - _count(kept)) <= 0:
                    break
            if (cursor := page.next) is None:
                break
        return found[::-1]

    async def follow(
        self, caller: Principal, which: LogFilter, *, after: str | None = None
    ) -> AsyncGenerator[LogChunk, None]:
        """Each chunk once, in the order in which they were stored, until the reader leaves.

        Begins behind the chunk with the id `after`, or, where that is kept no more, with the first
        one that is; else with what is kept since `which.since`; else with what comes from now on.
        Raises StoreUnavailable.
        """
        wanted = _wanted(caller, which)
        number = await self._start(wanted, after)
        while True:
            found = await self._chunks.arrived(wanted, after=number, limit=BATCH)
            for each in found:
                yield _chunk(each)
                number = each["number"]
            if len(found) < BATCH:
                await asyncio.sleep(LOOK_S)

    async def _start(self, wanted: Wanted, after: str | None) -> int:
        if after is not None:
            return await self._chunks.number_of(wanted.org, after) or 0
        last = await self._chunks.last_number()
        if wanted.since_ns is None:
            return last
        first = await self._chunks.first_number(wanted)
        return last if first is None else first - 1


@dataclass(frozen=True, slots=True)
class LogServices:
    """What API and workers need of this package."""

    service: StoredLogs
    intake: LogIntake
    retention: LogRetention

    @classmethod
    def over(cls, records: Records, settings: Settings) -> LogServices:
        """Contacts nobody."""
        store, clock = records.store, records.clock
        intake = LogIntake(store, settings, clock)
        return cls(StoredLogs(store), intake, LogRetention(store, settings, clock))


def _wanted(caller: Principal, which: LogFilter) -> Wanted:
    return Wanted(
        org=caller.org,
        container=which.container,
        engine_id=which.engine_id,
        node=which.node,
        stream=which.stream,
        contains=which.contains,
        since_ns=nanoseconds(which.since),
        until_ns=None if which.until is None else (nanoseconds(which.until) or 0) + 999,
    )


def nanoseconds(moment: datetime | None) -> int | None:
    """Since 1970; never negative."""
    return None if moment is None else max(0, (moment - _EPOCH) // _MICROSECOND * 1000)


def _last_lines(text: str, count: int) -> str:
    at = len(text) - text.endswith("\n")
    for _ in range(count):
        at = text.rfind("\n", 0, at)
        if at < 0:
            return text
    return text[at + 1 :]


def _count(text: str) -> int:
    """Of lines that begin in it, in a chunk that may begin in the middle of one."""
    return max(text.count("\n"), 1)


def _chunk(document: Document) -> LogChunk:
    return LogChunk.model_construct(
        id=document["_id"],
        container=document["container"],
        engine_id=document["engine_id"],
        node=document["node"],
        stream=document["stream"],
        begin=LogPosition(time_ns=document["time_ns"], offset=document["offset"]),
        text=document["text"],
    )


def _cursor(place: Place) -> str:
    time_ns, offset, id = place
    return f"{time_ns}-{offset}-{id}"


def _place(cursor: str) -> Place:
    found = _CURSOR.fullmatch(cursor)
    if found is None or max(int(found[1]), int(found[2])) >= 2**63:
        raise InvalidInput(
            "This cursor is not one that we gave out: start at the first page.", field="cursor"
        )
    return int(found[1]), int(found[2]), found[3]
