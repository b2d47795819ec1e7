"""What records come to together: sums of their fields, and whose they are.

Both are asked of the store as it is; what is written meanwhile may be in or not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

from pipeline.adapters.store.documents import Org, scoped
from pipeline.adapters.store.store import KINDS, Store, asked
from schemas.base import Record


async def sums(
    store: Store,
    kind: type[Record],
    wanted: Mapping[str, Any],
    *,
    org: Org,
    where: Mapping[str, Any],
) -> dict[str, int]:
    """By name, the sum of each expression of `wanted` over the records; 0 without any.

    What is no number counts for nothing. Raises StoreUnavailable.
    """
    added = {name: {"$sum": expression} for name, expression in wanted.items()}
    stages = [{"$match": scoped(org, where)}, {"$group": {"_id": None, **added}}]
    found = await asked(store.beside(kind.collection).aggregate(stages).to_list(None))
    return {name: int(found[0][name]) if found else 0 for name in wanted}


async def by_status(store: Store, kind: type[Record], states: Collection[str]) -> dict[str, int]:
    """How many records of all organisations are in each of these states, those without any left
    out. It reads an index and no records. Raises StoreUnavailable."""
    stages: list[dict[str, Any]] = [
        {"$match": {"status": {"$in": sorted(states)}}},
        {"$group": {"_id": "$status", "count": {"$sum": 1}}},
    ]
    found = await asked(store.beside(kind.collection).aggregate(stages).to_list(None))
    return {each["_id"]: each["count"] for each in found}


async def orgs(store: Store) -> set[str]:
    """Organisations that have a record of any kind. Raises StoreUnavailable.

    It reads one entry for each of them in an index that begins with `org`, and no records.
    """
    asking = (asked(store.beside(kind.collection).distinct("org")) for kind in KINDS)
    return {org for found in await asyncio.gather(*asking) for org in found}
