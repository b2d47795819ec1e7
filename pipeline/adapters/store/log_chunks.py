"""Chunks of what containers wrote. No records: nobody is told of them, and none ever changes.

Every call may raise StoreUnavailable.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pymongo import IndexModel, ReturnDocument, UpdateOne
from pymongo import errors as driver

from pipeline.adapters.store.documents import Document, Org, scoped
from pipeline.adapters.store.store import Store, asked
from pipeline.errors import YardError

CHUNKS: Final = "log_chunks"
STATE: Final = "log_state"
"""The number of the next chunk, the session of each node, and the size of each container's."""
_NUMBERS: Final = "numbers"
_NEWEST: Final = (("time_ns", -1), ("offset", -1), ("_id", -1))
_LAST: Final = (("end_ns", -1), ("end_offset", -1))
_INDEXES: Final = (
    IndexModel([("org", 1), *_NEWEST], name="org_newest"),
    IndexModel([("org", 1), ("container", 1), *_NEWEST], name="container_newest"),
    IndexModel([("org", 1), ("number", 1)], name="org_number"),
    IndexModel([("container", 1), ("number", 1), ("size", 1)], name="container_number"),
    IndexModel([("engine_id", 1), ("stream", 1), *_LAST], name="ends"),
    IndexModel([("time_ns", 1)], name="age"),
)
_DUPLICATE: Final = 11000
SCANNED: Final = 20_000
"""Chunks that one search for a text looks at."""
DELETED_AT_ONCE: Final = 5_000

Place = tuple[int, int, str]
"""Time, offset and id of a chunk: what chunks are sorted by."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which chunks somebody reads; None asks for all of them."""

    org: Org
    container: str | None = None
    engine_id: str | None = None
    node: str | None = None
    stream: str | None = None
    contains: str | None = None
    since_ns: int | None = None
    until_ns: int | None = None

    @property
    def query(self) -> Document:
        """Without `contains`."""
        named = {
            "container": self.container,
            "engine_id": self.engine_id,
            "node": self.node,
            "stream": self.stream,
        }
        query = {name: value for name, value in named.items() if value is not None}
        times = {"$gte": self.since_ns, "$lte": self.until_ns}
        bounds = {name: value for name, value in times.items() if value is not None}
        return scoped(self.org, query | ({"time_ns": bounds} if bounds else {}))

    @property
    def text(self) -> Document:
        return {"text": {"$regex": re.escape(self.contains)}} if self.contains else {}


class LogChunks:
    """Documents hold `_id`, `org`, `container`, `engine_id`, `node`, `stream`, `time_ns`, `offset`,
    `end_ns`, `end_offset`, `text`, its `size` in bytes, and the `number` by which they came."""

    def __init__(self, store: Store) -> None:
        self._chunks = store.beside(CHUNKS)
        self._state = store.beside(STATE)

    async def prepare(self) -> None:
        """Idempotent."""
        await asked(self._chunks.create_indexes(list(_INDEXES)))

    # --- what workers write

    async def open_session(self, node: str, session: str) -> None:
        """Of the agent of a node: chunks of others count no more. Idempotent."""
        update = {"$set": {"session": session}}
        await asked(self._state.update_one({"_id": f"node:{node}"}, update, upsert=True))

    async def session(self, node: str) -> str | None:
        found = await asked(self._state.find_one({"_id": f"node:{node}"}))
        return None if found is None else str(found["session"])

    async def end(self, engine_id: str, stream: str) -> tuple[int, int] | None:
        """The newest place of what is kept of one run: time and offset."""
        only = {"engine_id": engine_id, "stream": stream}
        fields = {"end_ns": 1, "end_offset": 1}
        found = await asked(self._chunks.find_one(only, fields, sort=list(_LAST)))
        return None if found is None else (found["end_ns"], found["end_offset"])

    async def is_known(self, node: str, container: str, engine_id: str) -> bool:
        """Something of this run came from that node."""
        run = {"engine_id": engine_id, "container": container, "node": node}
        return await asked(self._chunks.find_one(run, {"_id": 1})) is not None

    async def numbers(self, message: str, count: int) -> int:
        """The first of `count` numbers above all before; the same when the newest one repeats."""
        is_repeat = {"$eq": ["$message", {"$literal": message}]}
        free = {"$ifNull": ["$free", 1]}
        values = {
            "message": {"$literal": message},
            "first": {"$cond": [is_repeat, "$first", free]},
            "free": {"$cond": [is_repeat, free, {"$add": [free, count]}]},
        }
        taken = self._state.find_one_and_update(
            {"_id": _NUMBERS}, [{"$set": values}], upsert=True, return_document=ReturnDocument.AFTER
        )
        return int((await asked(taken))["first"])

    async def add(self, documents: Sequence[Document]) -> None:
        """Idempotent: what is kept already stays as it is."""
        await self._grow(documents)
        try:
            await asked(self._chunks.insert_many(list(documents), ordered=False))
        except YardError as error:
            if not are_all_there(error.__cause__):
                raise

    async def _grow(self, documents: Sequence[Document]) -> None:
        """Before they are there: sizes may be too large (see `measure`), never too small."""
        sizes: Counter[str] = Counter()
        for each in documents:
            sizes[each["container"]] += each["size"]
        grown = [
            UpdateOne({"_id": f"size:{container}"}, {"$inc": {"bytes": size}}, upsert=True)
            for container, size in sizes.items()
        ]
        await asked(self._state.bulk_write(grown, ordered=False))

    # --- what is read

    async def newest(
        self, wanted: Wanted, *, before: Place | None, limit: int
    ) -> tuple[list[Document], Place | None]:
        """Newest first, and the place behind which the rest begins; None: there is no more.

        A search for a text ends after `SCANNED` chunks, whatever it found.
        """
        query = {"$and": [wanted.query, _behind(before)]} if before else wanted.query
        stages: list[dict[str, Any]] = [{"$match": query}, {"$sort": dict(_NEWEST)}]
        if wanted.text:
            stages += [{"$limit": SCANNED}, {"$match": wanted.text}]
        stages += [{"$limit": limit + 1}]
        found = await asked(self._chunks.aggregate(stages).to_list(None))
        if len(found) > limit:
            return found[:limit], _place(found[limit - 1])
        return found, await self._end_of_scan(query) if wanted.text else None

    async def _end_of_scan(self, query: Document) -> Place | None:
        cursor = self._chunks.find(query, {"text": 0}, sort=list(_NEWEST), skip=SCANNED - 1)
        last = await asked(cursor.limit(1).to_list(None))
        return _place(last[0]) if last else None

    async def arrived(self, wanted: Wanted, *, after: int, limit: int) -> list[Document]:
        """With numbers above `after`, in their order."""
        only = wanted.query | wanted.text | {"number": {"$gt": after}}
        cursor = self._chunks.find(only, sort=[("number", 1)], limit=limit)
        return await asked(cursor.to_list(None))

    async def first_number(self, wanted: Wanted) -> int | None:
        """The lowest of all that are wanted; None without any."""
        lowest = {"$group": {"_id": None, "number": {"$min": "$number"}}}
        stages: list[dict[str, Any]] = [{"$match": wanted.query}, lowest]
        found = await asked(self._chunks.aggregate(stages).to_list(None))
        return int(found[0]["number"]) if found else None

    async def number_of(self, org: Org, id: str) -> int | None:
        found = await asked(self._chunks.find_one(scoped(org, {"_id": id}), {"number": 1}))
        return None if found is None else int(found["number"])

    async def last_number(self) -> int:
        """Of all chunks whatever; 0 without any."""
        found = await asked(self._state.find_one({"_id": _NUMBERS}))
        return 0 if found is None else int(found["free"]) - 1

    # --- what is deleted

    async def delete_older(self, than_ns: int) -> set[str]:
        """Some of them: of which containers. Repeat it until there are none."""
        cursor = self._chunks.find({"time_ns": {"$lt": than_ns}}, {"container": 1})
        old = await asked(cursor.limit(DELETED_AT_ONCE).to_list(None))
        if old:
            ids = [each["_id"] for each in old]
            await asked(self._chunks.delete_many({"_id": {"$in": ids}}))
        return {each["container"] for each in old}

    async def larger(self, than_bytes: int) -> list[str]:
        """Containers whose chunks may have more bytes than that."""
        only = {"_id": {"$gte": "size:", "$lt": "size;"}, "bytes": {"$gt": than_bytes}}
        found = await asked(self._state.find(only).to_list(None))
        return [each["_id"].removeprefix("size:") for each in found]

    async def measure(self, container: str) -> int:
        """How many bytes its chunks have, which is noted, too."""
        before = await asked(self._state.find_one({"_id": f"size:{container}"}))
        stages: list[dict[str, Any]] = [
            {"$match": {"container": container}},
            {"$group": {"_id": None, "bytes": {"$sum": "$size"}}},
        ]
        found = await asked(self._chunks.aggregate(stages).to_list(None))
        size = int(found[0]["bytes"]) if found else 0
        # Not set: chunks that came since the first look are counted already.
        excess = size - (before or {"bytes": 0})["bytes"]
        only = {"_id": f"size:{container}"}
        await asked(self._state.update_one(only, {"$inc": {"bytes": excess}}))
        await asked(self._state.delete_one({**only, "bytes": {"$lte": 0}}))
        return size

    async def delete_first(self, container: str, size: int) -> None:
        """Of one container those that came first, until at least so many bytes are gone."""
        while size > 0:
            cursor = self._chunks.find({"container": container}, {"number": 1, "size": 1, "_id": 0})
            first = cursor.sort("number", 1).limit(DELETED_AT_ONCE)
            gone, last = 0, 0
            for each in await asked(first.to_list(None)):
                if gone >= size:
                    break
                gone, last = gone + each["size"], each["number"]
            if not gone:
                return
            only = {"container": container, "number": {"$lte": last}}
            await asked(self._chunks.delete_many(only))
            size -= gone


def are_all_there(cause: BaseException | None) -> bool:
    """Whether an insertion of many failed only of those that were there before."""
    if not isinstance(cause, driver.BulkWriteError):
        return False
    details = cause.details or {}
    failed = details.get("writeErrors", [])
    return not details.get("writeConcernErrors") and all(
        each["code"] == _DUPLICATE for each in failed
    )


def _place(document: Document) -> Place:
    return document["time_ns"], document["offset"], document["_id"]


def _behind(place: Place) -> Document:
    time_ns, offset, id = place
    # The plain bound is what lets the index start here; `$or` only settles ties.
    return {
        "time_ns": {"$lte": time_ns},
        "$or": [
            {"time_ns": {"$lt": time_ns}},
            {"offset": {"$lt": offset}},
            {"offset": offset, "_id": {"$lt": id}},
        ],
    }
