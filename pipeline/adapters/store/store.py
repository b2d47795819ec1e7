"""MongoDB through Motor: every record lives here, and this is the only file that knows the driver.

Writes are acknowledged by a majority, from its journal; reads see only what a majority has. Every
call names the organisation that it acts for, and the query carries it: `EVERY_ORG` is for sweeps.

Every call may raise StoreUnavailable (the outcome of a write is then unknown, as with any lost
answer) and does so within `PATIENCE_S`.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, TypeVar

import pymongo
from bson.errors import BSONError
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection, AsyncIOMotorDatabase
from pymongo import IndexModel, ReturnDocument
from pymongo import errors as driver

from pipeline.adapters.store.documents import (
    CHANGES_PIPELINE,
    EVERY_ORG,
    KEEP,
    NEWEST_FIRST,
    ChangedFields,
    Document,
    Keep,
    Org,
    Place,
    R,
    Sort,
    Update,
    changed_fields,
    identified,
    planned_update,
    refuse_status,
    scoped,
    to_document,
    to_record,
    unless_only,
)
from pipeline.adapters.store.indexes import INDEXES, Index, indexes_of
from pipeline.adapters.store.renaming import RENAMINGS, carry_over, drop_obsolete
from pipeline.errors import (
    AlreadyExists,
    InvalidInput,
    LostRace,
    Misconfigured,
    NotFound,
    Overloaded,
    StoreUnavailable,
    TooLarge,
    YardError,
)
from schemas.base import Record
from schemas.message import Message

__all__ = ["EVERY_ORG", "KEEP", "KINDS", "Org", "Store"]

log = logging.getLogger(__name__)
T = TypeVar("T")

KINDS: Final[tuple[type[Record], ...]] = tuple(INDEXES)

OPERATION_S = 5.0
"""One call with its retries and its wait for a primary: longer than a planned step-down takes."""
PATIENCE_S = 7.0
"""The same with the wait for one of the driver's threads, when all of them hang."""
INDEXING_S = 300.0
REBUILDS = 20
AWAIT_MS = 1000
"""How long the store waits for the next change before it says that there is none yet."""

# https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml
_DENIED = frozenset({13, 18})
# The last: somebody dropped it while it was built.
_INDEX_CHANGED = frozenset({85, 86, 276})
_BAD_QUERY = frozenset({2, 9, 14, 52, 51091})


class Store:
    """Safe for concurrent use within one event loop."""

    def __init__(self, database: AsyncIOMotorDatabase[Document]) -> None:
        self._database = database
        self._collections: dict[str, AsyncIOMotorCollection[Document]] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, database: str) -> AsyncIterator[Store]:
        """Does not connect yet. Raises Misconfigured for a wrong address."""
        with opened(_client, url, database) as found:
            yield cls(found)

    async def ping(self) -> None:
        """Returns when a primary answers."""
        await asked(self._database.command("ping"))

    async def prepare(self) -> None:
        """Creates the indexes, builds anew those whose definition changed, carries over documents.

        Idempotent; several processes may do it at once. May take up to `INDEXING_S` for each step,
        but not for want of a primary.
        """
        await self.ping()
        for kind in KINDS:
            indexes = indexes_of(kind)
            if not await self._create(kind, indexes):
                for index in indexes:
                    await self._rebuild(kind, index)
        for kind, renaming in RENAMINGS.items():
            await asked(drop_obsolete(self._collection(kind), renaming.obsolete))
            await self.carry_over(kind)

    async def carry_over(self, kind: type[Record]) -> None:
        """Make documents that an earlier version wrote readable to this one. Idempotent.

        `prepare` does it; sweeps do it again as long as processes of that version may be running.
        It costs next to nothing when there are none.
        """
        with pymongo.timeout(INDEXING_S):
            moved = carry_over(self._collection(kind), RENAMINGS[kind])
            if carried := await asked(moved, INDEXING_S):
                log.warning("carried over %d %s of an earlier version", carried, kind.collection)

    async def insert(self, record: R) -> R:
        """Raises AlreadyExists; `facts["index"]` is `_id_` or a name in `store_indexes`."""
        await asked(self._collection(type(record)).insert_one(to_document(record)))
        return record

    async def get(self, kind: type[R], uuid: str, *, org: Org) -> R:
        """Raises NotFound, also for a record of another organisation."""
        found = await self.find_one(kind, org=org, where=identified(uuid, org))
        if found is None:
            raise NotFound(f"There is no {kind.resource} {uuid}.")
        return found

    async def find(
        self,
        kind: type[R],
        *,
        org: Org,
        where: Mapping[str, Any] | None = None,
        sort: Sort = NEWEST_FIRST,
        limit: int = 0,
        skip: int = 0,
    ) -> list[R]:
        """`limit` 0 is all of them. `where` is a query that we wrote, never a caller's."""
        cursor = self._collection(kind).find(scoped(org, where), limit=limit, skip=skip)
        if sort:
            cursor = cursor.sort(list(sort))
        return [to_record(kind, each) for each in await asked(cursor.to_list(None))]

    async def find_one(self, kind: type[R], *, org: Org, where: Mapping[str, Any]) -> R | None:
        found = await asked(self._collection(kind).find_one(scoped(org, where)))
        return None if found is None else to_record(kind, found)

    async def find_by_id(self, kind: type[R], uuid: str | None, *, org: Org) -> R | None:
        return await self.find_one(kind, org=org, where={"_id": uuid})

    async def count(
        self, kind: type[Record], *, org: Org, where: Mapping[str, Any] | None = None
    ) -> int:
        return await asked(self._collection(kind).count_documents(scoped(org, where)))

    async def changes(
        self, kind: type[Record], *, but: str = "", place: Place | None = None
    ) -> AsyncGenerator[ChangedFields, None]:
        """What every write changes from now on, whoever makes it, until cancelled.

        Begins with one that changes nothing: what was read before that may be outdated, unless it
        goes on where an earlier call with this `place` was cut (`is_resumed`). Changes of nothing
        `but` this field are left out. Raises StoreUnavailable when it is cut, when the store
        remembers no changes since that place, and where MongoDB is no replica set.
        """
        place = place or Place()
        pipeline = [*([unless_only(kind, but)] if but else []), *CHANGES_PIPELINE]
        watch = self._collection(kind).watch(
            pipeline, max_await_time_ms=AWAIT_MS, resume_after=place.token
        )
        try:
            async with watch as stream:
                told = await stream.try_next()
                place.is_resumed = place.token is not None
                yield ChangedFields()
                while stream.alive:
                    place.token = stream.resume_token
                    if told is not None:
                        yield changed_fields(told)
                    told = await stream.try_next()
        except driver.PyMongoError as error:
            if isinstance(error, driver.OperationFailure):
                place.token = None
            raise translated(error) from error
        raise StoreUnavailable("The store told of no more changes.")

    async def change(
        self,
        record: R,
        values: Mapping[str, Any],
        *,
        at: datetime,
        status: StrEnum | None = None,
        reason: str | Keep | None = KEEP,
        messages: Iterable[Message] = (),
        guard: Mapping[str, Any] | None = None,
    ) -> R:
        """Write on top of exactly this revision, and what is to be said about it with it.

        Returns the new record. Raises IllegalTransition before any I/O, LostRace when the record
        has moved on or `guard` does not hold, NotFound when it is gone.
        """
        update = planned_update(record, values, at, status, reason, messages)
        exactly = dict(guard or {}) | {"revision": record.revision}
        changed = await self._modify(type(record), record.uuid, record.org, exactly, update)
        if changed is None:
            await self.get(type(record), record.uuid, org=record.org)
            raise LostRace(f"{record.resource} {record.uuid} was changed by somebody else.")
        return changed

    async def update(
        self, kind: type[R], uuid: str, *, org: Org, guard: Mapping[str, Any], update: Update
    ) -> R | None:
        """One atomic update of a record, also a pipeline; None when it is gone or `guard` fails.

        For leases and counters: it moves neither `status` nor the revision, so that it never makes
        a guarded change of other fields lose its race.
        """
        refuse_status(update)
        return await self._modify(kind, uuid, org, guard, update)

    async def delete(self, kind: type[Record], uuid: str, *, org: Org) -> bool:
        """True when it was there."""
        answer = await asked(self._collection(kind).delete_one(identified(uuid, org)))
        return answer.deleted_count == 1

    async def clear_outbox(self, kind: type[Record], ids: Mapping[str, Iterable[str]]) -> None:
        """Take messages, by record, out of the outboxes. Idempotent; no new revision.

        An id belongs to one record, so that one update serves all of them.
        """
        sent = [id for of_one in ids.values() for id in of_one]
        mark = {"$pull": {"outbox": {"id": {"$in": sent}}}}
        await asked(self._collection(kind).update_many({"_id": {"$in": list(ids)}}, mark))

    async def unsent(self, kind: type[R], *, before: datetime, limit: int) -> list[R]:
        """Records whose outbox holds a message older than `before`."""
        where = {"outbox.time": {"$lt": before}}
        return await self.find(kind, org=EVERY_ORG, where=where, sort=(), limit=limit)

    def beside(self, name: str) -> AsyncIOMotorCollection[Document]:
        """A collection of what is no record; for modules of this package."""
        return self._database[name]

    def _collection(self, kind: type[Record]) -> AsyncIOMotorCollection[Document]:
        # Motor would build a collection, and all its methods, anew for every call.
        if kind.collection not in self._collections:
            self._collections[kind.collection] = self._database[kind.collection]
        return self._collections[kind.collection]

    async def _modify(
        self, kind: type[R], uuid: str, org: Org, guard: Mapping[str, Any], update: Update
    ) -> R | None:
        only = identified(uuid, org, guard)
        changed = await asked(
            self._collection(kind).find_one_and_update(
                only, update, return_document=ReturnDocument.AFTER
            )
        )
        return None if changed is None else to_record(kind, changed)

    async def _rebuild(self, kind: type[Record], index: Index) -> None:
        """Other processes may be at it, too: only what is still the old one is dropped."""
        for _ in range(REBUILDS):
            if await self._create(kind, [index]):
                return
            known = await asked(self._collection(kind).index_information())
            if index.name in known and not _is_current(index, known[index.name]):
                log.warning("rebuilding the index %s of %s", index.name, kind.collection)
                await asked(drop_obsolete(self._collection(kind), [index.name]))
        raise StoreUnavailable(f"The index {index.name} of {kind.collection} cannot be rebuilt.")

    async def _create(self, kind: type[Record], indexes: Sequence[Index]) -> bool:
        """False when one of these names belongs to an index with another definition."""
        models = [_model(each) for each in indexes]
        try:
            with pymongo.timeout(INDEXING_S):
                await asked(self._collection(kind).create_indexes(models), INDEXING_S)
        except YardError as error:
            cause = error.__cause__
            if isinstance(cause, driver.OperationFailure) and cause.code in _INDEX_CHANGED:
                return False
            raise
        return True


@contextmanager
def opened(
    connect: Callable[[str], AsyncIOMotorClient[Document]], url: str, database: str
) -> Iterator[AsyncIOMotorDatabase[Document]]:
    """Raises Misconfigured for a wrong address."""
    try:
        client = connect(url)
        found = client[database]
    except (driver.PyMongoError, ValueError) as error:
        raise Misconfigured(
            "The MongoDB address or database name is wrong: correct MODELYARD_MONGO_URL and"
            f" MODELYARD_MONGO_DATABASE ({type(error).__name__})."
        ) from None
    try:
        yield found
    finally:
        client.close()


def _client(url: str) -> AsyncIOMotorClient[Document]:
    return AsyncIOMotorClient(
        url,
        appname="modelyard",
        tz_aware=True,
        w="majority",
        journal=True,
        readConcernLevel="majority",
        retryWrites=True,
        connectTimeoutMS=2000,
        timeoutMS=int(OPERATION_S * 1000),
        maxPoolSize=32,
        maxIdleTimeMS=60_000,
    )


def _is_current(index: Index, known: Mapping[str, Any]) -> bool:
    told = list(known["key"]), known.get("unique", False), known.get("partialFilterExpression")
    return told == (list(index.keys), index.unique, index.only)


def _model(index: Index) -> IndexModel:
    partial = {} if index.only is None else {"partialFilterExpression": dict(index.only)}
    return IndexModel(list(index.keys), name=index.name, unique=index.unique, **partial)


async def asked(operation: Awaitable[T], patience_s: float | None = None) -> T:
    """Its answer; what the driver raises is `translated`."""
    try:
        async with asyncio.timeout(patience_s or PATIENCE_S):
            return await operation
    except (driver.PyMongoError, BSONError, OverflowError, UnicodeError, TimeoutError) as error:
        raise translated(error) from error


def translated(error: Exception) -> YardError:
    """Ours for any exception of the driver. The message holds neither values nor addresses."""
    match error:
        case driver.DuplicateKeyError():
            index = _index_of(error)
            return AlreadyExists(f"Such a record exists already ({index}).", index=index)
        case driver.DocumentTooLarge():
            return TooLarge("The record is larger than the store takes: send less.")
        case BSONError() | OverflowError() | UnicodeError():
            return InvalidInput("Text must be Unicode, keys without NUL, integers of 64 bits.")
        case driver.WaitQueueTimeoutError():
            return Overloaded("Every connection to the store is busy: try again.")
        case driver.ConfigurationError() | driver.InvalidName():
            return Misconfigured("MongoDB refused the settings: check MODELYARD_MONGO_URL.")
        case driver.OperationFailure(code=code) if code in _DENIED:
            return Misconfigured("MongoDB refused the credentials: check MODELYARD_MONGO_URL.")
        case driver.OperationFailure(code=code) if code in _BAD_QUERY:
            return InvalidInput("The store refused this query or value.")
    return StoreUnavailable(f"The store does not answer: try again ({type(error).__name__}).")


def _index_of(error: driver.DuplicateKeyError) -> str:
    text = (error.details or {}).get("errmsg", "")
    return found[1] if (found := re.search(r" index: (\S+)", text)) else "unknown"
