"""Fields that an earlier version stored under other names: its documents are carried over.

Each document moves in one atomic write, which also takes a new revision, so that a guarded write
of the earlier version loses its race. What is killed half-way goes on at the next start.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from motor.motor_asyncio import AsyncIOMotorCollection
from pymongo import UpdateOne
from pymongo import errors as driver

from pipeline.adapters.store.documents import Document
from schemas.base import Record
from schemas.registries.registry import Registry

log = logging.getLogger(__name__)

BATCH: Final = 200
"""Documents that are written together. The largest have a mebibyte."""
INDEX_NOT_FOUND: Final = frozenset({26, 27})
DUPLICATE_KEY: Final = 11000


@dataclass(frozen=True, slots=True)
class Renaming:
    identity: str
    """The old name of a text that every document of before has, and that must be unique."""
    fields: Mapping[str, str]
    """Old name → new name, of that one and of all others."""
    obsolete: tuple[str, ...]
    """Unique indexes of before, to which documents of now all look alike."""

    @property
    def outdated(self) -> Document:
        """The query for documents of before; the index `earlier_version` answers it."""
        return {self.identity: {"$gt": ""}}


_REGISTRY: Final = (
    *("id", "name", "metadata", "tags", "public_url", "image_prefix"),
    *("config", "storage_info", "secret", "health"),
)
RENAMINGS: Final[Mapping[type[Record], Renaming]] = {
    Registry: Renaming(
        identity="container_registry_id",
        fields={f"container_registry_{name}": name for name in _REGISTRY},
        obsolete=("id_taken",),
    )
}


async def drop_obsolete(collection: AsyncIOMotorCollection[Document], names: Iterable[str]) -> None:
    """Idempotent."""
    for name in names:
        try:
            await collection.drop_index(name)
        except driver.OperationFailure as error:
            if error.code not in INDEX_NOT_FOUND:
                raise


async def carry_over(collection: AsyncIOMotorCollection[Document], renaming: Renaming) -> int:
    """Returns how many documents it has moved. Several processes may do it at once."""
    carried = 0
    change = {"$rename": dict(renaming.fields), "$inc": {"revision": 1}}
    while ids := await _outdated(collection, renaming):
        await drop_obsolete(collection, renaming.obsolete)
        writes = [UpdateOne({"_id": id, **renaming.outdated}, change) for id in ids]
        try:
            done = await collection.bulk_write(writes, ordered=False)
            carried += done.modified_count
        except driver.BulkWriteError as error:
            details: Mapping[str, Any] = error.details or {}
            carried += details.get("nModified", 0)
            for failure in details.get("writeErrors", ()):
                if failure["code"] != DUPLICATE_KEY:
                    raise
                carried += await _carry_twin(collection, renaming, ids[failure["index"]])
    return carried


async def _outdated(collection: AsyncIOMotorCollection[Document], renaming: Renaming) -> list[str]:
    found = await collection.find(renaming.outdated, {"_id": 1}, limit=BATCH).to_list(None)
    return [each["_id"] for each in found]


async def _carry_twin(
    collection: AsyncIOMotorCollection[Document], renaming: Renaming, id: str
) -> int:
    """One that a process of the earlier version has made meanwhile, while another has its name."""
    log.warning("%s %s was entered twice and is now called by its uuid", collection.name, id)
    others = {old: new for old, new in renaming.fields.items() if old != renaming.identity}
    change = {
        "$rename": others,
        "$set": {renaming.fields[renaming.identity]: id},
        "$unset": {renaming.identity: ""},
        "$inc": {"revision": 1},
    }
    done = await collection.update_one({"_id": id, **renaming.outdated}, change)
    return done.modified_count
