"""Entries are searched: the filter language, its limits, pages and their order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI

from api.app import create
from pipeline.bootstrap.control_plane import Services as Yard
from tests.support.registries.registry_door import Door, P, client

META = f"{P}metadata"
TAGS = f"{P}tags"
NAME = f"{P}name"
ID = f"{P}id"


@pytest.fixture(scope="module")
async def shelf(app: FastAPI, yard: Yard) -> AsyncIterator[Door]:
    """Four entries that the tests of this file only read."""
    async with await client(app, "shelf") as http:
        door = Door(http, yard, "shelf")
        await door.create(
            id="r1", name="Alpha", tags=["ai", "internal"], metadata={"n": 1, "env": "prod"}
        )
        await door.create(
            id="r2", name="beta", tags=["internal"], metadata={"n": 2.5, "env": "dev", "x": None}
        )
        await door.create(
            id="r3",
            name="Gamma",
            tags=["public", "ai"],
            metadata={"n": "3", "nested": {"a": {"b": 1}}, "list": [{"k": 1}, {"k": 2}]},
        )
        await door.create(
            id="r4", tags=[], storage_info={"storage_size": -1}, metadata={"text": "two\nlines"}
        )
        yield door


FOUND: list[tuple[Any, list[str]]] = [
    ({}, ["r1", "r2", "r3", "r4"]),
    ({TAGS: {"$in": ["ai", "internal"]}}, ["r1", "r2", "r3"]),
    ({TAGS: "ai"}, ["r1", "r3"]),
    ({TAGS: ["internal"]}, ["r2"]),
    ({TAGS: ["ai", "internal"]}, ["r1"]),
    ({TAGS: ["internal", "ai"]}, []),
    ({TAGS: []}, ["r4"]),
    ({TAGS: {"$all": ["ai", "internal"]}}, ["r1"]),
    ({TAGS: {"$size": 2}}, ["r1", "r3"]),
    ({TAGS: {"$nin": ["ai"]}}, ["r2", "r4"]),
    ({TAGS: {"$not": {"$in": ["internal"]}}}, ["r3", "r4"]),
    ({TAGS: {"$elemMatch": {"$regex": "^pub"}}}, ["r3"]),
    ({f"{META}.n": 1}, ["r1"]),
    ({f"{META}.n": {"$gt": 1}}, ["r2"]),
    ({f"{META}.n": {"$gte": 1, "$lt": 2}}, ["r1"]),
    ({f"{META}.n": "3"}, ["r3"]),
    ({f"{META}.n": {"$ne": 1}}, ["r2", "r3", "r4"]),
    ({f"{META}.x": None}, ["r1", "r2", "r3", "r4"]),
    ({f"{META}.x": {"$exists": True}}, ["r2"]),
    ({f"{META}.x": {"$exists": 1}}, ["r2"]),
    ({f"{META}.nested.a.b": 1}, ["r3"]),
    ({f"{META}.nested": {"a": {"b": 1}}}, ["r3"]),
    ({f"{META}.nested": {"a": {"b": 1, "c": 2}}}, []),
    ({f"{META}.list.k": 2}, ["r3"]),
    ({f"{META}.list": {"$elemMatch": {"k": {"$gt": 1}}}}, ["r3"]),
    ({NAME: {"$regex": "^a", "$options": "i"}}, ["r1"]),
    ({NAME: {"$regex": "^[A-Z]"}}, ["r1", "r3"]),
    ({NAME: {"$regex": "^G a m m a #", "$options": "x"}}, ["r3"]),
    ({NAME: {"$regex": "A.P", "$options": "is"}}, ["r1"]),
    ({f"{META}.text": {"$regex": "^two.lines$", "$options": "s"}}, ["r4"]),
    ({f"{META}.text": {"$regex": "^lines$", "$options": "m"}}, ["r4"]),
    ({f"{META}.text": {"$regex": "^lines$"}}, []),
    ({NAME: {"$eq": "beta"}}, ["r2"]),
    ({NAME: {"$lte": "Alpha"}}, ["r1", "r4"]),
    ({f"{META}.x": {"$in": [None, 1]}}, ["r1", "r2", "r3", "r4"]),
    ({f"{META}.n": {"$not": {"$gt": 1}}}, ["r1", "r3", "r4"]),
    ({NAME: ""}, ["r4"]),
    ({ID: {"$in": ["r2", "r4"]}}, ["r2", "r4"]),
    ({"$and": [{TAGS: "ai"}, {f"{META}.env": "prod"}]}, ["r1"]),
    ({"$or": [{NAME: "beta"}, {TAGS: {"$size": 0}}]}, ["r2", "r4"]),
    ({"$nor": [{TAGS: "ai"}, {NAME: "beta"}]}, ["r4"]),
    ({"nobody.knows": None}, ["r1", "r2", "r3", "r4"]),
    ({"nobody.knows": 1}, []),
    ({"nobody": {"$exists": False}}, ["r1", "r2", "r3", "r4"]),
    ({f"{P}secret": None}, ["r1", "r2", "r3", "r4"]),
    ({f"{P}storage_info.storage_size": -1}, ["r4"]),
    ({"created_at": {"$gt": "2001-01-01T00:00:00Z"}}, ["r1", "r2", "r3", "r4"]),
    ({"updated_at": {"$lt": "2001-01-01T00:00:00Z"}}, []),
    ({"created_at": {"$gt": "0001-01-01T00:00:00+23:59"}}, ["r1", "r2", "r3", "r4"]),
    ({"created_at": {"$lt": "9999-12-31T23:59:59.999999-23:59"}}, ["r1", "r2", "r3", "r4"]),
]


@pytest.mark.parametrize(("filter", "expected"), FOUND, ids=lambda each: str(each)[:60])
async def test_a_filter_means_what_it_means_to_mongodb(
    shelf: Door, filter: Any, expected: list[str]
) -> None:
    assert await shelf.found(filter) == expected


DEEP: Any = {TAGS: "a"}
for _ in range(11):
    DEEP = {"$and": [DEEP]}

REFUSED: list[Any] = [
    [],
    None,
    "x",
    7,
    {"$where": "sleep(1000)"},
    {NAME: {"$where": "1"}},
    {"$expr": {"$eq": [1, 1]}},
    {"$function": {}},
    {"$jsonSchema": {}},
    {"$text": {"$search": "x"}},
    {"$comment": "x"},
    {NAME: {"$mod": [2, 0]}},
    {NAME: {"$type": 2}},
    {NAME: {"$near": [0, 0]}},
    {NAME: {"$oid": "0" * 24}},
    {META: {"a": {"$date": "2001-01-01"}}},
    {NAME: {"$eq": {"$numberLong": "1"}}},
    {"$or": [{"$and": [{"$nor": [{NAME: {"$not": {"$bitsAllSet": 1}}}]}]}]},
    {"_id": "x"},
    {"_id.x": "x"},
    {"org": "other"},
    {"org": {"$ne": ""}},
    {"outbox": {"$exists": True}},
    {"outbox.id": 1},
    {"revision": 1},
    {"deleted": True},
    {"check_at": 1},
    {"created_by": "x"},
    {"": 1},
    {f"{META}..a": 1},
    {f"{META}.": 1},
    {f".{META}": 1},
    {f"{META}.$a": 1},
    {"$a": 1},
    {NAME: {"$in": "x"}},
    {NAME: {"$in": {}}},
    {NAME: {"$nin": None}},
    {NAME: {"$in": ["x"] * 101}},
    {NAME: {"$nin": ["x"] * 101}},
    {TAGS: {"$all": ["x"] * 101}},
    {TAGS: {"$all": "x"}},
    {TAGS: {"$size": -1}},
    {TAGS: {"$size": 1.5}},
    {TAGS: {"$size": "1"}},
    {TAGS: {"$size": True}},
    {TAGS: {"$elemMatch": []}},
    {NAME: {"$exists": "1"}},
    {NAME: {"$not": "x"}},
    {NAME: {"$not": {}}},
    {"$and": []},
    {"$or": []},
    {"$nor": []},
    {"$and": {}},
    {"$and": [1]},
    {"$or": [{NAME: "x"}] * 101},
    {NAME: {"$options": "i"}},
    {NAME: {"$regex": "x", "$options": "u"}},
    {NAME: {"$regex": "x", "$options": 1}},
    {NAME: {"$regex": 1}},
    {NAME: {"$regex": "("}},
    {NAME: {"$regex": "x" * 257}},
    {NAME: {"$regex": "(a+)+$"}},
    {NAME: {"$regex": "(a*)*b"}},
    {NAME: {"$regex": "(.*a){20,}"}},
    {NAME: {"$eq": "x", "plain": 1}},
    {NAME: {"plain": 1, "$eq": "x"}},
    DEEP,
]


@pytest.mark.parametrize("filter", REFUSED, ids=lambda each: str(each)[:60])
async def test_what_is_not_allowed_is_400(shelf: Door, filter: Any) -> None:
    answer = await shelf.query(filter)
    assert answer.status_code == 400, answer.text


async def test_a_filter_of_more_than_64_kib_is_400(shelf: Door) -> None:
    longest = {NAME: {"$eq": "x" * (65536 - len(json.dumps({NAME: {"$eq": ""}})))}}
    body = json.dumps(longest)
    assert len(body) == 65536
    for content, status in ((body, 200), (body + " ", 400)):
        answer = await shelf.call("POST", "/container_registries", content=content)
        assert answer.status_code == status


async def test_the_most_that_is_allowed_works(shelf: Door) -> None:
    deepest: Any = {TAGS: "ai"}
    for _ in range(9):
        deepest = {"$and": [deepest]}
    assert await shelf.found(deepest) == ["r1", "r3"]
    assert await shelf.found({ID: {"$in": ["r1"] * 100}}) == ["r1"]
    assert await shelf.found({"$or": [{ID: "r1"}] * 100}) == ["r1"]
    assert await shelf.found({NAME: {"$regex": "x" * 256}}) == []


PAGES: list[tuple[dict[str, Any], list[str]]] = [
    ({"limit": 2}, ["r1", "r2"]),
    ({"limit": 2, "offset": 2}, ["r3", "r4"]),
    ({"offset": 3}, ["r4"]),
    ({"offset": 4}, []),
    ({"offset": 10**30}, []),
    ({"limit": 0}, []),
    ({"limit": 5000}, ["r1", "r2", "r3", "r4"]),
    ({"limit": 10**40}, ["r1", "r2", "r3", "r4"]),
    ({"limit": "0002"}, ["r1", "r2"]),
    ({"sort": "-created_at"}, ["r4", "r3", "r2", "r1"]),
    ({"sort": f"-{ID}"}, ["r4", "r3", "r2", "r1"]),
    ({"sort": NAME}, ["r4", "r1", "r3", "r2"]),
    ({"sort": f"-{P}storage_info.storage_size,{NAME}"}, ["r4", "r1", "r3", "r2"]),
    ({"sort": f"{META}.env,-{NAME},updated_at"}, ["r3", "r4", "r2", "r1"]),
    ({"sort": f"{P}public_url"}, ["r1", "r2", "r3", "r4"]),
]


@pytest.mark.parametrize(("params", "expected"), PAGES, ids=str)
async def test_pages_are_told_by_the_query_string(
    shelf: Door, params: dict[str, Any], expected: list[str]
) -> None:
    answer = await shelf.query({}, **params)
    assert answer.status_code == 200, answer.text
    assert [each[ID] for each in answer.json()["data"]] == expected
    assert answer.headers["x-total-count"] == "4"


async def test_the_total_counts_matches_and_not_the_page(shelf: Door) -> None:
    answer = await shelf.query({TAGS: "ai"}, limit=1)
    assert len(answer.json()["data"]) == 1
    assert answer.headers["x-total-count"] == "2"
    answer = await shelf.query({NAME: "nobody"})
    assert (answer.json()["data"], answer.headers["x-total-count"]) == ([], "0")


@pytest.mark.parametrize(
    "params",
    [
        {"limit": "-1"},
        {"limit": "x"},
        {"limit": ""},
        {"limit": "1.0"},
        {"limit": "1e2"},
        {"limit": "٣"},
        {"limit": "+1"},
        {"limit": " 1"},
        {"offset": "-1"},
        {"offset": "x"},
        {"sort": ""},
        {"sort": "-"},
        {"sort": "colour"},
        {"sort": "_id"},
        {"sort": "outbox"},
        {"sort": "org"},
        {"sort": f"{META}..a"},
        {"sort": f"{META}.$a"},
        {"sort": "created_at,"},
        {"sort": f"{NAME},{NAME}"},
        {"sort": f"{NAME},-{NAME}"},
        {"sort": f"{NAME},{TAGS},{ID},created_at"},
        {"sort": f"--{NAME}"},
        {"sort": f"{NAME}\0"},
    ],
    ids=str,
)
async def test_malformed_paging_is_400(shelf: Door, params: dict[str, str]) -> None:
    assert (await shelf.query({}, **params)).status_code == 400


async def test_two_arrays_to_sort_by_are_400_and_told(shelf: Door) -> None:
    """MongoDB's own refusal, as soon as one entry has both."""
    answer = await shelf.query({}, sort=f"{TAGS},{META}.list")
    assert answer.status_code == 400
    assert "both lead to arrays" in answer.json()["error"]
    assert len(await shelf.found({}, sort=f"{META}.list,{NAME}")) == 4


async def test_other_parameters_are_ignored(shelf: Door) -> None:
    assert len(await shelf.found({}, colour="red", org="other")) == 4


async def test_documents_of_results_are_those_of_reads(shelf: Door) -> None:
    answer = await shelf.query({ID: "r3"})
    assert answer.json()["data"] == [await shelf.get("r3")]


async def test_health_can_be_searched(door: Door) -> None:
    id = await door.create(public_url="http://127.0.0.1:9")
    assert await door.found({f"{P}health": None, ID: id}) in ([id], [])
    await door.check(id)
    assert await door.found({f"{P}health.reachable": False}) == [id]
    assert await door.found({f"{P}health.checked_at": {"$gt": "2001-01-01"}}) == [id]
    assert await door.found({f"{P}health.error_kind": "refused"}) == [id]


async def test_a_page_is_bounded_in_bytes(door: Door) -> None:
    for number in range(35):
        await door.create(id=f"r{number}", metadata={"text": "x" * 1_000_000})
    answer = await door.query({})
    assert answer.status_code == 400
    assert "limit" in answer.json()["error"]
    assert len(await door.found({}, limit=20)) == 20


HOSTILE = {f"{META}.text": {"$regex": "(?:a|b|ab|ba)[^c]*d[^e]*f[^g]*h[^i]*j$"}}


@asynccontextmanager
async def limited(door: Door, **limits: float) -> AsyncIterator[Door]:
    """The same organisation, through an application with tighter limits."""
    app = create(door.services.settings.model_copy(update=limits))
    async with app.router.lifespan_context(app), await client(app, door.org) as http:
        yield Door(http, app.state.services, door.org)


LIMITED: list[tuple[str, int, Any, Any]] = [
    ("depth_max", 2, {"$and": [{NAME: "x"}]}, {"$and": [{"$and": [{NAME: {"$not": {"$eq": 1}}}]}]}),
    ("elements_max", 2, {NAME: {"$in": ["x"] * 2}}, {NAME: {"$in": ["x"] * 3}}),
    ("pattern_max_chars", 60, {NAME: {"$regex": "x" * 60}}, {NAME: {"$regex": "x" * 61}}),
    ("body_max_bytes", 150, {NAME: "x" * 100}, {NAME: "x" * 150}),
]


async def test_limits_are_settings(door: Door) -> None:
    limits = {f"filter_{name}": most for name, most, *_ in LIMITED}
    async with limited(door, **limits) as narrow:
        for name, _, allowed, refused in LIMITED:
            assert (await narrow.query(allowed)).status_code == 200, name
            assert (await narrow.query(refused)).status_code == 400, name


async def test_a_search_that_takes_too_long_is_400(door: Door) -> None:
    await asyncio.gather(
        *(door.create(id=f"r{number}", metadata={"text": "abdfh" * 150_000}) for number in range(4))
    )
    async with limited(door, search_time_s=0.005) as hasty:
        for params in ({}, {"limit": 0}, {"sort": NAME}):
            answer = await hasty.query(HOSTILE, **params)
            assert answer.status_code == 400
            assert "takes longer than 0.005 seconds" in answer.json()["error"]


async def test_a_hostile_expression_is_ended_and_delays_nobody(
    door: Door, shelf: Door, other: Door
) -> None:
    await asyncio.gather(
        *(
            other.create(id=f"r{number}", metadata={"text": "abdfh" * 150_000})
            for number in range(12)
        )
    )
    id = await door.create(tags=["mine"])
    hostile = asyncio.gather(*(other.query(HOSTILE) for _ in range(6)))
    await asyncio.sleep(0)
    rounds = 0
    while not hostile.done():
        assert await door.found({TAGS: "mine"}) == [id]
        await door.get(id)
        await door.updated(id, {"$inc": {f"{META}.n": 1}})
        rounds += 1
        await asyncio.sleep(0.02)
    statuses = {answer.status_code for answer in await hostile}
    assert statuses <= {200, 400}
    assert rounds >= 3, "others go on meanwhile"
