"""Lists in pages, newest first, that stay right while records come and go."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

from pipeline.adapters.store import Org, Store
from pipeline.errors import InvalidInput
from schemas.base import Record

T = TypeVar("T")
R = TypeVar("R", bound=Record)

MOST = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_CURSOR = re.compile(r"(\d{1,15}):(.{1,128})")


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
    milliseconds = (record.created_at - _EPOCH) // _MILLISECOND
    return base64.urlsafe_b64encode(f"{milliseconds}:{record.uuid}".encode()).decode().rstrip("=")


def _after(cursor: str) -> dict[str, Any]:
    created_at, uuid = _parse(cursor)
    # The plain bound is what lets the index start here; `$or` only settles ties.
    return {
        "created_at": {"$lte": created_at},
        "$or": [{"created_at": {"$lt": created_at}}, {"_id": {"$lt": uuid}}],
    }


def _parse(cursor: str) -> tuple[datetime, str]:
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        text = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
        match = _CURSOR.fullmatch(text)
        if match:
            return _EPOCH + int(match[1]) * _MILLISECOND, match[2]
    except (ValueError, OverflowError) as error:
        raise _refused() from error
    raise _refused()


def _refused() -> InvalidInput:
    return InvalidInput(
        "This cursor is not one that we gave out: start at the first page.", field="cursor"
    )
