"""What gateways and agents measured last. No records: nobody is told of them, and the store forgets
them by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

from pymongo import IndexModel, WriteConcern
from pymongo.read_concern import ReadConcern

from pipeline.adapters.store.store import Store, asked

COLLECTION: Final = "readings"
LIFE_S: Final = 3600
_EXPIRY: Final = IndexModel([("at", 1)], name="expiry", expireAfterSeconds=LIFE_S)


class Source(StrEnum):
    GATEWAY = "gateway"
    """Figures by slug of a deployment."""
    NODE = "node"
    """Figures by uuid of a container, of those that are scaled by what they use."""
    CONTAINERS = "containers"
    """What each container of a node uses, by its uuid."""


@dataclass(frozen=True, slots=True)
class Reading:
    name: str
    age_s: float
    """By the store's clock, as the time of its publishing."""
    figures: Mapping[str, Mapping[str, Any]]


class Readings:
    """One document of each source, replaced each time. Every call may raise StoreUnavailable."""

    def __init__(self, store: Store) -> None:
        # To lose one in a failover is better than to wait for the journal each time.
        self._collection = store.beside(COLLECTION).with_options(
            write_concern=WriteConcern(w=1), read_concern=ReadConcern("local")
        )

    async def prepare(self) -> None:
        """Idempotent."""
        await asked(self._collection.create_indexes([_EXPIRY]))

    async def publish(
        self, source: Source, name: str, figures: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """In place of those before of the same name."""
        values = {"name": name, "at": "$$NOW", "figures": {"$literal": figures}}
        update = [{"$set": values}]
        await asked(self._collection.update_one({"_id": _id(source, name)}, update, upsert=True))

    async def recent(
        self, source: Source, within: timedelta, names: Collection[str] | None = None
    ) -> list[Reading]:
        """Of each that published within that time; only of these `names` when given."""
        ids: dict[str, Any] = {"$gte": _id(source, ""), "$lt": f"{source.value};"}
        if names is not None:
            ids = {"$in": [_id(source, each) for each in names]}
        age = {"$divide": [{"$subtract": ["$$NOW", "$at"]}, 1000]}
        stages: list[dict[str, Any]] = [
            {"$match": {"_id": ids}},
            {"$set": {"age_s": age}},
            {"$match": {"age_s": {"$lte": within.total_seconds()}}},
        ]
        found = await asked(self._collection.aggregate(stages).to_list(None))
        return [Reading(each["name"], each["age_s"], each["figures"]) for each in found]


def _id(source: Source, name: str) -> str:
    return f"{source.value}:{name}"
