"""Many guarded writes in one call, light writes, and reads of a few fields of many records.

Every call may raise StoreUnavailable; the outcome of the writes is then unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pymongo import UpdateOne

from pipeline.adapters.store.documents import Document, Org, Update, refuse_status, scoped
from pipeline.adapters.store.store import Store, asked
from schemas.base import Record

AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Write:
    """One atomic update of a record, made only where `guard` holds."""

    uuid: str
    guard: Mapping[str, Any]
    update: Update


async def write_all(store: Store, kind: type[Record], writes: Sequence[Write]) -> bool:
    """Each by itself, in no order. False when some were not made: read again which.

    As with `Store.update`, the status moves only by what `documents.planned_update` made.
    """
    if not writes:
        return True
    operations = [UpdateOne({**each.guard, "_id": each.uuid}, each.update) for each in writes]
    done = await asked(store.beside(kind.collection).bulk_write(operations, ordered=False))
    return done.matched_count == len(writes)


async def update_all(store: Store, kind: type[Record], writes: Sequence[Write]) -> bool:
    """As `write_all`, for leases and counters: they move neither status nor revision."""
    for each in writes:
        refuse_status(each.update)
    return await write_all(store, kind, writes)


async def read_fields(
    store: Store,
    kind: type[Record],
    fields: Sequence[str],
    *,
    org: Org,
    where: Mapping[str, Any] | None = None,
) -> list[Document]:
    """As the store keeps them, with `_id`; for sweeps that look at many records."""
    wanted = dict.fromkeys(fields, 1)
    cursor = store.beside(kind.collection).find(scoped(org, where), wanted)
    found: list[Document] = []
    # Other work goes on between the parts.
    while part := await asked(cursor.to_list(AT_ONCE)):
        found += part
    return found


async def touch(
    store: Store,
    kind: type[Record],
    uuid: str,
    *,
    guard: Mapping[str, Any],
    values: Mapping[str, Any],
    fields: Sequence[str],
) -> Document | None:
    """Set a few values; of the record no more than the fields asked for, None where `guard` fails.

    As with `Store.update`, it moves no revision.
    """
    refuse_status({"$set": values})
    only, update = {**guard, "_id": uuid}, {"$set": dict(values)}
    touched = store.beside(kind.collection).find_one_and_update(
        only, update, projection=dict.fromkeys(fields, 1)
    )
    return await asked(touched)


async def distinct(
    store: Store, kind: type[Record], field: str, *, org: Org, where: Mapping[str, Any]
) -> list[Any]:
    """The values that a field has, in no order."""
    return await asked(store.beside(kind.collection).distinct(field, scoped(org, where)))
