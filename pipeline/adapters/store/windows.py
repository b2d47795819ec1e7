"""Counts of what happened within a sliding window, across processes, and notes that expire.

They are no records: nobody is told of them, and the store forgets them by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from pymongo import IndexModel, ReturnDocument, WriteConcern
from pymongo.read_concern import ReadConcern

from pipeline.adapters.store.store import Store, asked
from pipeline.errors import AlreadyExists

COLLECTION: Final = "windows"
_EXPIRY: Final = IndexModel([("expires_at", 1)], name="expiry", expireAfterSeconds=0)


class Windows:
    """Keys are hashes of whatever is counted, so that no names are kept.

    Every call may raise StoreUnavailable.
    """

    def __init__(self, store: Store) -> None:
        # To lose some in a failover is better than to wait for the journal each time.
        self._collection = store.beside(COLLECTION).with_options(
            write_concern=WriteConcern(w=1), read_concern=ReadConcern("local")
        )

    async def prepare(self) -> None:
        """Idempotent."""
        await asked(self._collection.create_indexes([_EXPIRY]))

    async def take(
        self, key: str, id: str, most: int, *, at: datetime, window: timedelta
    ) -> timedelta | None:
        """Counts one more under its `id`, or says how long to wait when there are `most`.

        Counted before it is made, so that attempts side by side cannot pass the limit. Clocks of
        two processes may differ by up to a window.
        """
        update = _taken(id, most, at, window)
        try:
            found = await self._update(key, update)
        except AlreadyExists:
            # Somebody else made the document at the same time.
            found = await self._update(key, update)
        if not found["is_full"]:
            return None
        oldest: datetime = min(entry["at"] for entry in found["taken"])
        return oldest + window - at

    async def give_back(self, key: str, id: str) -> None:
        """It does not count after all. Idempotent."""
        await asked(self._collection.update_one({"_id": key}, {"$pull": {"taken": {"id": id}}}))

    async def note(self, key: str, lifetime: timedelta) -> None:
        """Remembers `key`, from now on for so long."""
        update = [{"$set": {"expires_at": _from_now(lifetime)}}]
        await asked(self._collection.update_one({"_id": key}, update, upsert=True))

    async def is_noted(self, key: str) -> bool:
        return await asked(self._collection.find_one({"_id": key})) is not None

    async def _update(self, key: str, update: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        found = await asked(
            self._collection.find_one_and_update(
                {"_id": key}, update, upsert=True, return_document=ReturnDocument.AFTER
            )
        )
        return dict(found or {})


def _taken(id: str, most: int, at: datetime, window: timedelta) -> list[dict[str, Any]]:
    recent = {"$and": [{"$gt": ["$$one.at", at - window]}, {"$lt": ["$$one.at", at + window]}]}
    known = {"$ifNull": ["$taken", []]}
    grown = {"$concatArrays": ["$taken", [{"id": id, "at": at}]]}
    return [
        {"$set": {"taken": {"$filter": {"input": known, "as": "one", "cond": recent}}}},
        {"$set": {"is_full": {"$gte": [{"$size": "$taken"}, most]}}},
        {
            "$set": {
                "taken": {"$cond": ["$is_full", "$taken", grown]},
                "expires_at": _from_now(2 * window),
            }
        },
    ]


def _from_now(lifetime: timedelta) -> dict[str, Any]:
    """By the clock of the store, which also is the one that ends it."""
    amount = int(lifetime.total_seconds())
    return {"$dateAdd": {"startDate": "$$NOW", "unit": "second", "amount": amount}}
