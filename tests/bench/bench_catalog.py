"""A catalogue of 100,000 Docker images: each operator of its filters, beside bare Motor.

    ENTRIES=10000 CALLS=100 python -m tests.bench.bench_catalog

Both fetch a page and count all matches, in turn, in one run over the same entries.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import uvloop
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import MongoClient

from pipeline.adapters.store.documents import to_document
from pipeline.bootstrap.control_plane import Services as Yard
from pipeline.bootstrap.control_plane import open_services
from pipeline.mongo_language import filter_spec
from pipeline.settings import Settings
from schemas.registries.catalog import CatalogEntry
from tests.bench.bench_registries import Question, side_by_side
from tests.bench.rows import Row, keep
from tests.support.http.api_process import settings
from tests.support.systems.services import Services
from tests.support.tenants import principal

ENTRIES = int(os.environ.get("ENTRIES", "100000"))
CALLS = int(os.environ.get("CALLS", "300"))
ORG = "bench"
LIMIT = 100
RATIO_MAX = 2
BATCH = 5_000
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
GUARD = {"org": ORG, "deleted": False}


@dataclass(frozen=True, slots=True)
class Asked:
    """The same question in both languages."""

    expression: Mapping[str, Any]
    query: Mapping[str, Any]


def leaf(kind: str, field: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "field": field, **more}


def exact(rng: random.Random) -> Asked:
    name = name_of(rng.randrange(ENTRIES))
    return Asked(leaf("exact", "name", value=name), {"name": name})


def exact_of_any_case(rng: random.Random) -> Asked:
    name = name_of(rng.randrange(ENTRIES))
    pattern = {"$regex": f"^{re.escape(name)}$", "$options": "i"}
    return Asked(
        leaf("exact", "name", value=name.upper(), case_insensitive=True), {"name": pattern}
    )


def inverted(rng: random.Random) -> Asked:
    one = exact(rng)
    return Asked({**one.expression, "invert": True}, {"$nor": [one.query]})


def contains(rng: random.Random) -> Asked:
    part = f"{rng.randrange(ENTRIES):06}"
    return Asked(leaf("contains", "name", sub_string=part), {"name": {"$regex": re.escape(part)}})


def is_null(rng: random.Random) -> Asked:
    field = "registry_username"
    return Asked(leaf("isnull", field), {field: None})


COMPARISONS = {"<": "$lt", "<=": "$lte", ">": "$gt", ">=": "$gte"}


def compare(rng: random.Random) -> Asked:
    sign, few = rng.choice(list(COMPARISONS)), rng.randrange(1, 200)
    name = name_of(few if sign[0] == "<" else ENTRIES - few)
    query = {"name": {COMPARISONS[sign]: name}}
    return Asked(leaf("compare", "name", operator=sign, value=name), query)


def relation(rng: random.Random) -> Asked:
    return Asked(leaf("exact", "framework.version", value="1.14"), {"framework": {"$in": [1]}})


def both(rng: random.Random) -> Asked:
    one, other = exact(rng), relation(rng)
    parts = [one.expression, other.expression]
    query = {"$and": [one.query, other.query]}
    return Asked({"type": "and", "sub_expressions": parts}, query)


def either(rng: random.Random) -> Asked:
    one, other = exact(rng), exact(rng)
    parts = [one.expression, other.expression]
    return Asked({"type": "or", "sub_expressions": parts}, {"$or": [one.query, other.query]})


QUESTIONS = (
    Question("`exact` of a name", exact, CALLS, "name"),
    Question("`exact` of any case", exact_of_any_case, CALLS // 10, "name"),
    Question("`exact`, inverted", inverted, CALLS // 10, "keys"),
    Question("`contains` in a name", contains, CALLS // 10, "name"),
    Question("`isnull` of a field", is_null, CALLS // 10, "registry_username"),
    Question("`compare` of names", compare, CALLS, "name"),
    Question("`exact` of a framework's version", relation, CALLS // 10, "framework"),
    Question("`and` of two", both, CALLS, "name"),
    Question("`or` of two", either, CALLS, "name"),
)


class Ways:
    def __init__(self, yard: Yard, mongo: AsyncIOMotorClient[Any], chosen: Settings) -> None:
        self._catalog = yard.catalog.service
        self._caller = principal(ORG)
        self.collection = mongo[chosen.mongo_database][CatalogEntry.collection]

    async def product(self, asked: Asked) -> object:
        specification = filter_spec.parse({"expressions": [asked.expression]})
        found, _ = await self._catalog.query(self._caller, specification, limit=LIMIT, offset=0)
        return [each["pk"] for each in found.documents], found.total

    async def motor(self, asked: Asked) -> object:
        query = {**GUARD, **asked.query}
        cursor = self.collection.find(query).sort([("pk", 1)]).limit(LIMIT)
        found = await cursor.to_list(None)
        return [each["pk"] for each in found], await self.collection.count_documents(query)


async def main() -> None:
    services = Services()
    try:
        nats, mongod = services.nats(), services.mongod()
        await nats.start()
        await mongod.start()
        # A machine that is busy answers both late: how late is what is measured.
        chosen = settings(nats.url, mongod.url, org=ORG, search_time_s=3)
        await asyncio.to_thread(_seed, chosen)
        async with open_services(chosen, name="bench") as yard:
            await yard.records.store.prepare()
            await yard.catalog.rows.load()
            mongo: AsyncIOMotorClient[Any] = AsyncIOMotorClient(chosen.mongo_url)
            keep("catalogue", await _measured(Ways(yard, mongo, chosen)))
            mongo.close()
    finally:
        await services.stop()


async def _measured(ways: Ways) -> list[Row]:
    rng = random.Random(7)
    rows = []
    for question in QUESTIONS:
        product, motor = await side_by_side([ways.product, ways.motor], question, rng)
        ratio = _p99(product) / _p99(motor)
        rows.append(
            Row(
                f"{question.what}, p99",
                f"{_p99(product) * 1000:.1f} ms",
                f"the same on bare Motor: {_p99(motor) * 1000:.1f} ms",
                ratio,
                f"≤ {RATIO_MAX}",
                ratio <= RATIO_MAX,
            )
        )
    return rows


def _p99(taken: Sequence[float]) -> float:
    return sorted(taken)[len(taken) * 99 // 100]


def name_of(number: int) -> str:
    return f"image {number:06}"


def _seed(chosen: Settings) -> None:
    with MongoClient[dict[str, Any]](chosen.mongo_url) as client:
        collection = client[chosen.mongo_database][CatalogEntry.collection]
        documents = _documents()
        while batch := list(islice(documents, BATCH)):
            collection.insert_many(batch, ordered=False)


def _documents() -> Iterator[dict[str, Any]]:
    for number in range(1, ENTRIES + 1):
        entry = CatalogEntry(
            uuid=str(number),
            org=ORG,
            created_at=FIRST,
            updated_at=FIRST,
            changed_at=FIRST,
            pk=number,
            name=name_of(number),
            version="1.0",
            url=f"registry.test:5000/team/image-{number}:1",
            registry_url="registry.test:5000",
            registry_username=None if number % 100 == 0 else "ci",
            cuda_version=1 + number % 29,
            framework=1 + number % 16,
            domain=1 + number % 5,
            tasks=[1 + number % 3],
            min_hardware_generation=1 + number % 9,
            licence=1 + number % 14,
        )
        yield to_document(entry)


if __name__ == "__main__":
    uvloop.run(main())
