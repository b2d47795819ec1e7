"""Finding records: one by what people call it, many in pages that stay right meanwhile."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Generic, TypeVar

from pipeline.adapters.store.store import Org, Store
from pipeline.errors import InvalidInput, NotFound
from schemas.base import Record, StatefulRecord

T = TypeVar("T")
R = TypeVar("R", bound=Record)
S = TypeVar("S", bound=StatefulRecord)

DELETED: Final = "DELETED"
"""The last status of whatever can be deleted."""
ALIVE: Final[Mapping[str, Any]] = {"status": {"$ne": DELETED}}

BEGINNING: Final = 8
"""Characters of an ID that are shown where there is little room, and enough to call it by."""
_BEGUN = re.compile(rf"[0-9a-f]{{{BEGINNING}}}[0-9a-f-]{{0,27}}")


async def get_living(store: Store, kind: type[S], uuid: str, *, org: Org) -> S:
    """Raises NotFound, also for one that is deleted."""
    record = await store.get(kind, uuid, org=org)
    if record.status == DELETED:
        raise NotFound(f"There is no {kind.resource} {uuid}.")
    return record


async def find_living(store: Store, kind: type[S], wanted: str, *, org: Org) -> S:
    """By uuid, name, or the beginning of a uuid. Raises NotFound, and InvalidInput for a beginning
    that several have."""
    named = [{**ALIVE, "name": wanted}]
    record = await find_called(store, kind, wanted, org=org, named=named)
    if record is None:
        raise NotFound(f"There is no {kind.resource} {wanted}.")
    return record


async def find_called(
    store: Store, kind: type[S], text: str, *, org: Org, named: Sequence[Mapping[str, Any]]
) -> S | None:
    """The record with the ID `text`, unless it is deleted, else the newest that matches the first
    of `named` that any does, else the only living one whose ID begins so.

    Raises InvalidInput when several do.
    """
    for where in ({"_id": text}, *named):
        if found := await store.find(kind, org=org, where=where, limit=1):
            return None if found[0].status == DELETED else found[0]
    if not _BEGUN.fullmatch(text):
        return None
    begun = {"_id": {"$gte": text, "$lt": f"{text}g"}, **ALIVE}
    found = await store.find(kind, org=org, where=begun, limit=2)
    if len(found) > 1:
        raise InvalidInput(f"Several {kind.resource}s have IDs that begin with {text}: give more.")
    return found[0] if found else None


MOST = 1000
CURSOR: Final = "^[0-9]{1,14}-[A-Za-z0-9_-]{1,128}$"
"""Of the last record that a caller has seen: milliseconds of its creation, and its id."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """`next` is the cursor of the page that follows; None on the last one."""

    items: list[T]
    next: str | None


async def page(
    store: Store,
    kind: type[R],
    *,
    org: Org,
    where: Mapping[str, Any] | None = None,
    limit: int,
    cursor: str | None = None,
) -> Page[R]:
    """Raises InvalidInput for a limit outside 1 to `MOST` and for a cursor that is not ours."""
    if not 1 <= limit <= MOST:
        raise InvalidInput(f"limit must be between 1 and {MOST}.", field="limit")
    conditions = [*([where] if where else []), *([_after(cursor)] if cursor else [])]
    query = {"$and": conditions} if conditions else {}
    found = await store.find(kind, org=org, where=query, limit=limit + 1)
    more = len(found) > limit
    return Page(found[:limit], cursor_of(found[limit - 1]) if more else None)


def cursor_of(record: Record) -> str:
    """Opaque to callers; names the last record that they have seen."""
    return f"{(record.created_at - _EPOCH) // _MILLISECOND}-{record.uuid}"


def _after(cursor: str) -> dict[str, Any]:
    if not re.fullmatch(CURSOR, cursor):
        raise InvalidInput(
            "This cursor is not one that we gave out: start at the first page.", field="cursor"
        )
    milliseconds, _, uuid = cursor.partition("-")
    created_at = _EPOCH + int(milliseconds) * _MILLISECOND
    # The plain bound is what lets the index start here; `$or` only settles ties.
    return {
        "created_at": {"$lte": created_at},
        "$or": [{"created_at": {"$lt": created_at}}, {"_id": {"$lt": uuid}}],
    }
