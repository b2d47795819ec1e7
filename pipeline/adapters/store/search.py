"""Searches with filters that callers wrote, kept away from everything else that uses the store.

They have connections of their own, a time limit that the server keeps, and few of them run at
once: whatever a caller asks for, other requests find a free connection and a free thread.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final, TypeVar

import bson
from bson.codec_options import CodecOptions
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection, AsyncIOMotorDatabase
from pymongo import errors as driver

from pipeline.adapters.store.documents import Document
from pipeline.adapters.store.store import opened, translated
from pipeline.errors import InvalidInput, Overloaded, YardError
from schemas.base import Record

T = TypeVar("T")

SILENCE_S: Final = 4.0
"""After which a server that says nothing is taken for gone: longer than a search may take."""
WAIT_S: Final = 5.0
"""How long a search waits for its turn."""
CHEAP_AT_ONCE: Final = 4
COSTLY_AT_ONCE: Final = 2
BREATH_BYTES: Final = 256 * 1024
"""Unfolded without a pause for others."""
_RAW: Final = CodecOptions(document_class=RawBSONDocument)
_DECODED: Final = CodecOptions[Document](tz_aware=True)
# MaxTimeMSExpired, and Interrupted by it.
_TOO_LONG = frozenset({50, 11601})
# Of the code for any bad value, only the message tells it.
_PARALLEL: Final = "parallel arrays"
# A regular expression that the server's engine gave up on.
_HOSTILE = frozenset({51156})


@dataclass(frozen=True, slots=True)
class Wanted:
    """`query` names stored paths; `fields` are those that are read."""

    query: Mapping[str, Any]
    fields: Sequence[str]
    sort: Sequence[tuple[str, int]]
    limit: int
    offset: int
    computed: Mapping[str, Any] = field(default_factory=dict)
    """Fields to sort by that are not stored, which no index serves: name → aggregation
    expression."""


@dataclass(frozen=True, slots=True)
class Found:
    documents: list[Document]
    total: int
    """Matches, whatever the page."""


class Search:
    """Safe for concurrent use within one event loop."""

    def __init__(self, database: AsyncIOMotorDatabase[Document], answer_s: float) -> None:
        self._database = database
        self._answer_s = answer_s
        self._cheap = asyncio.Semaphore(CHEAP_AT_ONCE)
        self._costly = asyncio.Semaphore(COSTLY_AT_ONCE)

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, database: str, *, answer_s: float) -> AsyncIterator[Search]:
        """Does not connect yet. Raises Misconfigured for a wrong address.

        `answer_s` is what one search may take of the server's time.
        """
        with opened(_client, url, database) as found:
            yield cls(found, answer_s)

    async def run(
        self, kind: type[Record], wanted: Wanted, *, is_cheap: bool, max_bytes: int
    ) -> Found:
        """One page and the number of all matches.

        `max_bytes` bounds what a page holds. Raises InvalidInput when the search takes too long or
        the page would hold more, Overloaded when too many searches wait, and StoreUnavailable.
        """
        lane = self._cheap if is_cheap else self._costly
        try:
            async with asyncio.timeout(WAIT_S):
                await lane.acquire()
        except TimeoutError as error:
            raise Overloaded("Too many searches run at once: try again.") from error
        try:
            return await self._run(self._database[kind.collection], wanted, max_bytes)
        finally:
            lane.release()

    async def _run(
        self, collection: AsyncIOMotorCollection[Document], wanted: Wanted, max_bytes: int
    ) -> Found:
        until = monotonic() + self._answer_s
        documents: list[Document] = []
        if wanted.limit:
            page = _page(collection, wanted, max_bytes, int(self._answer_s * 1000))
            documents = await self._asked(page)
        if documents and len(documents) < wanted.limit:
            return Found(documents, wanted.offset + len(documents))
        left_ms = max(1, int((until - monotonic()) * 1000))
        return Found(documents, await self._asked(_count(collection, wanted.query, left_ms)))

    async def _asked(self, operation: Awaitable[T]) -> T:
        try:
            return await operation
        except (driver.PyMongoError, BSONError, OverflowError, UnicodeError) as error:
            raise _translated(error, self._answer_s) from error


async def _page(
    collection: AsyncIOMotorCollection[Document], wanted: Wanted, max_bytes: int, max_ms: int
) -> list[Document]:
    # Undecoded, so that its size is known before it is unfolded.
    raw = collection.with_options(codec_options=_RAW)
    shown = {"_id": 0, **dict.fromkeys(wanted.fields, 1)}
    cursor: Any
    if wanted.computed:
        cursor = raw.aggregate(_stages(wanted, shown), maxTimeMS=max_ms)
    else:
        cursor = raw.find(
            dict(wanted.query),
            shown,
            sort=list(wanted.sort),
            skip=wanted.offset,
            limit=wanted.limit,
            max_time_ms=max_ms,
        )
    documents: list[Document] = []
    size = read = 0
    async for document in cursor:
        size += len(document.raw)
        if size > max_bytes:
            await cursor.close()
            raise InvalidInput(
                f"This page would hold more than {max_bytes} bytes: ask for fewer with limit.",
                field="limit",
            )
        documents.append(bson.decode(document.raw, _DECODED))
        if size - read > BREATH_BYTES:
            # A batch that is here already is walked through without ever waiting.
            read = size
            await asyncio.sleep(0)
    return documents


def _stages(wanted: Wanted, shown: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"$match": dict(wanted.query)},
        {"$set": dict(wanted.computed)},
        {"$sort": dict(wanted.sort)},
        *([{"$skip": wanted.offset}] if wanted.offset else []),
        {"$limit": wanted.limit},
        {"$project": dict(shown)},
    ]


async def _count(
    collection: AsyncIOMotorCollection[Document], query: Mapping[str, Any], max_ms: int
) -> int:
    return await collection.count_documents(dict(query), maxTimeMS=max_ms)


def _client(url: str) -> AsyncIOMotorClient[Document]:
    # The driver lets its own deadline overrule the server's time limit, so it gets none.
    return AsyncIOMotorClient(
        _without_timeout(url),
        appname="modelyard-search",
        tz_aware=True,
        readConcernLevel="majority",
        connectTimeoutMS=2000,
        serverSelectionTimeoutMS=2000,
        socketTimeoutMS=int(SILENCE_S * 1000),
        maxPoolSize=CHEAP_AT_ONCE + COSTLY_AT_ONCE,
        maxIdleTimeMS=60_000,
    )


def _without_timeout(url: str) -> str:
    return re.sub(r"(?i)(?<=[?&])timeoutMS=\d+&?", "", url)


def _translated(error: Exception, answer_s: float) -> YardError:
    match error:
        case driver.OperationFailure() if _PARALLEL in str(error):
            return InvalidInput(
                "sort names two paths that both lead to arrays: name one of them.", field="sort"
            )
        case driver.OperationFailure(code=code) if code in _TOO_LONG:
            return InvalidInput(
                f"The search takes longer than {answer_s:g} seconds: make it narrower."
            )
        case driver.OperationFailure(code=code) if code in _HOSTILE:
            return InvalidInput("The regular expression cannot be evaluated: make it simpler.")
    return translated(error)
