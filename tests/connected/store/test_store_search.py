"""Searches of callers: bounded in time, in size and in number, whatever they ask for."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pipeline.adapters.store import search as store_search
from pipeline.adapters.store.search import Search, Wanted
from pipeline.adapters.store.store import Store
from pipeline.errors import InvalidInput, Misconfigured, Overloaded, StoreUnavailable
from pipeline.stack.pieces.mongod import MongodPiece
from schemas.image import Image
from tests.support.records import image

_SLEEP = {"body": "function() { sleep(700); return true; }", "args": [], "lang": "js"}
SLOW = {"$expr": {"$function": _SLEEP}}
"""What no caller can send. It takes 3.5 s for the five documents, and ends between two of them."""


@pytest.fixture
async def database(mongo_url: str) -> str:
    name = f"test-{uuid.uuid4().hex}"
    async with Store.open(mongo_url, name) as store:
        for number in range(5):
            await store.insert(image(name=f"i{number}", labels={"text": "x" * 1000}))
    return name


@pytest.fixture
async def search(mongo_url: str, database: str) -> AsyncIterator[Search]:
    async with Search.open(mongo_url, database, answer_s=2) as search:
        yield search


def wanted(query: dict[str, Any], **paging: Any) -> Wanted:
    given = {"fields": ("name",), "sort": (("name", 1),), "limit": 100, "offset": 0}
    return Wanted(query, **(given | paging))


async def run(search: Search, what: Wanted, **options: Any) -> store_search.Found:
    return await search.run(Image, what, **({"is_cheap": True, "max_bytes": 10**6} | options))


async def test_a_page_holds_the_fields_that_were_asked_for_and_counts_all(search: Search) -> None:
    found = await run(search, wanted({}, limit=2, offset=1))
    assert found.documents == [{"name": "i1"}, {"name": "i2"}]
    assert found.total == 5


@pytest.mark.parametrize(
    ("paging", "total"), [({"limit": 0}, 5), ({"offset": 5}, 5), ({"offset": 4}, 5)]
)
async def test_the_total_does_not_depend_on_the_page(
    search: Search, paging: dict[str, int], total: int
) -> None:
    assert (await run(search, wanted({}, **paging))).total == total


async def test_a_page_that_holds_too_much_is_refused(search: Search) -> None:
    everything = wanted({}, fields=("name", "labels"))
    assert len((await run(search, everything, max_bytes=10_000)).documents) == 5
    with pytest.raises(InvalidInput, match="ask for fewer"):
        await run(search, everything, max_bytes=3_000)


async def test_others_have_their_turn_while_a_large_page_is_read(
    mongo_url: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a bound that every document of this page is above."""
    monkeypatch.setattr(store_search, "BREATH_BYTES", 500)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with Search.open(mongo_url, database, answer_s=2) as search:
        everything = wanted({}, fields=("name", "labels"))
        await run(search, everything)
        pauses: list[int] = []
        decode = store_search.bson.decode

        def decoded(*given: Any) -> Any:
            pauses.append(turns)
            return decode(*given)

        monkeypatch.setattr(store_search.bson, "decode", decoded)
        counting = asyncio.create_task(count())
        await run(search, everything)
        counting.cancel()
    assert len(set(pauses)) == len(pauses) == 5


async def test_what_takes_too_long_is_ended_by_the_server(search: Search) -> None:
    for paging in ({}, {"limit": 0}):
        began = time.monotonic()
        with pytest.raises(InvalidInput, match="longer than 2 seconds"):
            await run(search, wanted(SLOW, **paging))
        assert time.monotonic() - began < 3.4


async def test_costly_searches_wait_for_each_other_and_cheap_ones_do_not(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_search, "WAIT_S", 0.2)
    slow = [
        asyncio.create_task(run(search, wanted(SLOW), is_cheap=False))
        for _ in range(store_search.COSTLY_AT_ONCE)
    ]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await run(search, wanted({}), is_cheap=False)
    assert (await run(search, wanted({}))).total == 5
    for error in await asyncio.gather(*slow, return_exceptions=True):
        assert isinstance(error, InvalidInput)
    assert (await run(search, wanted({}), is_cheap=False)).total == 5


@pytest.mark.parametrize(
    "query", [{"$bad": 1}, {"name": {"$regex": "("}}, {"name": {"$in": 7}}], ids=str
)
async def test_what_the_server_refuses_is_the_callers_fault(
    search: Search, query: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput):
        await run(search, wanted(query))


async def test_a_sort_by_two_arrays_is_the_callers_fault(mongo_url: str, database: str) -> None:
    async with Store.open(mongo_url, database) as store:
        finding = {"code": "x", "severity": "info", "message": "x"}
        await store.insert(image(findings=[finding, finding], name="two"))
    async with Search.open(mongo_url, database, answer_s=2) as search:
        with pytest.raises(InvalidInput):
            await run(
                search, wanted({"name": "two"}, sort=(("findings.code", 1), ("outbox.id", 1)))
            )


async def test_a_server_that_is_gone_or_silent_is_unavailable(
    own_mongod: MongodPiece, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_search, "SILENCE_S", 0.5)
    async with Search.open(own_mongod.url, "silent", answer_s=2) as search:
        assert (await run(search, wanted({}))).total == 0
        own_mongod.pause()
        with pytest.raises(StoreUnavailable):
            await run(search, wanted({}))
        own_mongod.resume()
        await own_mongod.stop()
        with pytest.raises(StoreUnavailable):
            await run(search, wanted({}))


async def test_a_wrong_address_is_told_at_once() -> None:
    with pytest.raises(Misconfigured, match="MODELYARD_MONGO_URL"):
        async with Search.open("http://nowhere", "x", answer_s=2):
            raise AssertionError("it was opened")
