"""Entries of the audit trail as they are added, and how far the events have been read for it.

Every call may raise StoreUnavailable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pipeline.adapters.store.documents import to_document
from pipeline.adapters.store.log_chunks import are_all_there
from pipeline.adapters.store.store import Store, asked
from pipeline.errors import YardError
from schemas.access import AuditEntry

STATE: Final = "audit_state"
_READ: Final = "events"
DELETED_AT_ONCE: Final = 5_000


@dataclass(frozen=True, slots=True)
class Read:
    """Everything up to `sequence` in the stream of that epoch is in the trail."""

    epoch: str
    sequence: int


class AuditLog:
    """What is read of it goes through `records.queries.page`."""

    def __init__(self, store: Store) -> None:
        self._entries = store.beside(AuditEntry.collection)
        self._state = store.beside(STATE)

    async def read_up_to(self) -> Read | None:
        """None before the first time."""
        found = await asked(self._state.find_one({"_id": _READ}))
        return None if found is None else Read(found["epoch"], found["sequence"])

    async def add(self, entries: Sequence[AuditEntry]) -> None:
        """Idempotent: what is there stays as it is."""
        if not entries:
            return
        documents = [to_document(each) for each in entries]
        try:
            await asked(self._entries.insert_many(documents, ordered=False))
        except YardError as error:
            if not are_all_there(error.__cause__):
                raise

    async def advance(self, before: Read | None, after: Read) -> bool:
        """False when somebody else has read on meanwhile."""
        values = {"epoch": after.epoch, "sequence": after.sequence}
        if before is None:
            only = {"_id": _READ}
            made = await asked(self._state.update_one(only, {"$setOnInsert": values}, upsert=True))
            return made.upserted_id is not None
        known = {"_id": _READ, "epoch": before.epoch, "sequence": before.sequence}
        return (await asked(self._state.update_one(known, {"$set": values}))).matched_count == 1

    async def delete_older(self, than: datetime) -> int:
        """How many are gone. Repeat it until there are none."""
        cursor = self._entries.find({"created_at": {"$lt": than}}, {"_id": 1})
        old = [each["_id"] for each in await asked(cursor.limit(DELETED_AT_ONCE).to_list(None))]
        if old:
            await asked(self._entries.delete_many({"_id": {"$in": old}}))
        return len(old)
