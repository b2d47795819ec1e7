"""A registry directory of a million entries: searches, reads, memory, and regular checks.

    ENTRIES=100000 python -m tests.bench.bench_registries

Every search and read is made through the product and through a bare Motor client in turn, in one
run over the same entries; both fetch a page and count all matches. The same over HTTP is there
for comparison. `ENTRIES` is the size (1000000), `CALLS` how often each is made (1500).
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import uvloop
from motor.motor_asyncio import AsyncIOMotorClient

from api.registry_db.documents import SEARCHED, shown
from pipeline.mongo_language import filters
from pipeline.mongo_language.filters import to_query
from pipeline.registries.queries import Paging
from schemas.access import Role
from schemas.registries.registry import Registry
from tests.bench.bench_idle import resident_mib
from tests.bench.large_directory import (
    KINDS,
    MODELS,
    ORG,
    TEAMS,
    Directory,
    P,
    id_of,
    kind,
    large_directory,
    model,
    team,
)
from tests.bench.rechecks import recheck_rows
from tests.bench.rows import COMPARISON, Row, keep
from tests.support.tenants import Tenant, principal

ENTRIES = int(os.environ.get("ENTRIES", "1000000"))
CALLS = int(os.environ.get("CALLS", "1500"))
WARM_CALLS = 50
RATIO_MAX = 2
GROWTH_MAX_MIB = 16
PAGING = Paging()
GUARD = {"org": ORG, "deleted": False}

Asked = Any
"""A filter, or the id of an entry."""
Way = Callable[[Asked], Awaitable[object]]
Drawn = Callable[[random.Random], Asked]


def two_tags(rng: random.Random) -> Asked:
    return {f"{P}tags": {"$in": [model(rng.randrange(MODELS)) for _ in range(2)]}}


def tag_and_path(rng: random.Random) -> Asked:
    tagged = {f"{P}tags": kind(rng.randrange(KINDS))}
    return {"$and": [tagged, {f"{P}metadata.team": team(rng.randrange(TEAMS))}]}


def common_tag(rng: random.Random) -> Asked:
    return {f"{P}tags": {"$in": [kind(rng.randrange(KINDS)), model(rng.randrange(MODELS))]}}


def an_id(rng: random.Random) -> Asked:
    return id_of(rng.randrange(ENTRIES))


@dataclass(frozen=True, slots=True)
class Question:
    what: str
    draw: Drawn
    calls: int
    index: str


QUESTIONS = (
    Question("`$in` of two tags", two_tags, CALLS, "tags"),
    Question("`$and` of a tag and a metadata path", tag_and_path, CALLS, "metadata"),
    Question("`$in` with a tag that a tenth has", common_tag, max(CALLS // 10, 50), "tags"),
    Question("get by id", an_id, CALLS, "id_used"),
)


class Ways:
    """Each answers with what identifies the outcome, so that they can be held against another."""

    def __init__(self, directory: Directory, mongo: AsyncIOMotorClient[Any]) -> None:
        settings = directory.settings
        self._entries = directory.yard.registries.service
        self._caller = principal(ORG)
        self.collection = mongo[settings.mongo_database][Registry.collection]
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.api_port}", timeout=30)

    async def product(self, asked: Asked) -> object:
        if isinstance(asked, str):
            return (await self._entries.get(self._caller, asked)).id
        found = await self._entries.query(self._caller, filters.parse(asked), SEARCHED, PAGING)
        return _ids(map(shown, found.documents)), found.total

    async def motor(self, asked: Asked) -> object:
        if isinstance(asked, str):
            found = await self.collection.find_one(GUARD | {"id": asked})
            return found and found["id"]
        query = GUARD | _stored(asked)
        cursor = self.collection.find(query).sort(list(PAGING.sort)).limit(PAGING.limit)
        found = await cursor.to_list(None)
        return [each["id"] for each in found], await self.collection.count_documents(query)

    async def over_http(self, asked: Asked) -> object:
        if isinstance(asked, str):
            answer = await self.http.get(f"/container_registry/{asked}")
            assert answer.status_code == 200, answer.text
            return answer.json()["data"][f"{P}id"]
        answer = await self.http.post("/container_registries", json=asked)
        assert answer.status_code == 200, answer.text
        return _ids(answer.json()["data"]), int(answer.headers["x-total-count"])

    async def assert_indexed(self, question: Question, asked: Asked) -> None:
        """Of the query that the product makes of it: no scan of the collection, no stray index."""
        if isinstance(asked, str):
            cursor = self.collection.find(GUARD | {"id": asked})
        else:
            query = to_query(filters.parse(asked), SEARCHED, GUARD)
            cursor = self.collection.find(query).sort(list(PAGING.sort)).limit(PAGING.limit)
        explained = await cursor.explain()
        stages = list(_stages(explained["queryPlanner"]["winningPlan"]))
        used = {stage["indexName"] for stage in stages if stage["stage"] == "IXSCAN"}
        assert used == {question.index}, (question.what, used, stages)
        examined = explained["executionStats"]["totalDocsExamined"]
        assert examined <= ENTRIES / 100, (question.what, examined)
        print(f"  {question.what}: index {question.index}, {examined} documents examined")


async def main() -> None:
    async with large_directory(ENTRIES) as directory:
        print(f"  {ENTRIES} entries in {directory.seeding_s:.0f} s,", end=" ")
        print(f"indexes in {directory.indexing_s:.0f} s")
        mongo: AsyncIOMotorClient[Any] = AsyncIOMotorClient(directory.settings.mongo_url)
        ways = Ways(directory, mongo)
        ways.http.headers |= await Tenant(directory.yard.access, ORG).headers(Role.VIEWER)
        keep("registries", await measured(ways, api_pid=directory.api.pid or 0))
        await ways.http.aclose()
        mongo.close()
        keep("registry checks", await recheck_rows(directory))


async def measured(ways: Ways, api_pid: int) -> list[Row]:
    rng = random.Random(7)
    rows: list[Row] = []
    for question in QUESTIONS:
        for _ in range(WARM_CALLS):
            await ways.over_http(question.draw(rng))
    before_mib = resident_mib(api_pid)
    for question in QUESTIONS:
        await ways.assert_indexed(question, question.draw(rng))
        taken = await side_by_side([ways.product, ways.motor, ways.over_http], question, rng)
        rows += compared(question.what, *taken)
    return [*rows, grown(before_mib, resident_mib(api_pid))]


async def side_by_side(
    ways: Sequence[Way], question: Question, rng: random.Random
) -> list[list[float]]:
    """Seconds of each call, by way. The same is asked in every way, in another order each time."""
    taken: dict[Way, list[float]] = {way: [] for way in ways}
    for number in range(-WARM_CALLS, question.calls):
        asked = question.draw(rng)
        answers = []
        for way in rng.sample(list(ways), len(ways)):
            began = time.perf_counter()
            answers.append(await way(asked))
            if number >= 0:
                taken[way].append(time.perf_counter() - began)
        assert answers[0], asked
        assert answers == answers[:1] * len(ways), (asked, answers)
    return list(taken.values())


def compared(
    what: str, product: Sequence[float], motor: Sequence[float], over_http: Sequence[float]
) -> list[Row]:
    baseline = f"the same on bare Motor: {_shown(motor)}"

    def row(how: str, taken: Sequence[float], most: float | None) -> Row:
        ratio = _p(99, taken) / _p(99, motor)
        target = COMPARISON if most is None else f"≤ {most}"
        met = most is None or ratio <= most
        return Row(f"{what}{how}, p99 (median)", _shown(taken), baseline, ratio, target, met)

    return [row("", product, RATIO_MAX), row(", over HTTP", over_http, None)]


def grown(before_mib: float, after_mib: float) -> Row:
    growth = after_mib - before_mib
    calls = sum(question.calls for question in QUESTIONS)
    return Row(
        f"memory of the API after {calls} of these calls",
        f"{after_mib:.0f} MiB",
        f"before: {before_mib:.0f} MiB",
        after_mib / before_mib,
        f"≤ {GROWTH_MAX_MIB} MiB more",
        growth <= GROWTH_MAX_MIB,
    )


def _stored(asked: Mapping[str, Any]) -> dict[str, Any]:
    """A filter in the names under which the fields are stored."""
    return dict(json.loads(json.dumps(asked).replace(P, "")))


def _ids(documents: Iterable[Mapping[str, Any]]) -> list[str]:
    return [document[f"{P}id"] for document in documents]


def _stages(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    inner = [plan["inputStage"]] if "inputStage" in plan else plan.get("inputStages", [])
    for each in inner:
        yield from _stages(each)


def _shown(taken: Sequence[float]) -> str:
    return f"{_p(99, taken) * 1000:.1f} ms ({_p(50, taken) * 1000:.1f} ms)"


def _p(percent: int, taken: Sequence[float]) -> float:
    return sorted(taken)[len(taken) * percent // 100]


if __name__ == "__main__":
    uvloop.run(main())
