"""What the directory asks of the store finds its answer through an index, as the store tells it.

Every call is made through the product; the store's own profile says how it was answered.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from fastapi import FastAPI

from api.registry_db import documents
from pipeline.adapters.store.documents import to_document
from pipeline.bootstrap.control_plane import Services as Yard
from pipeline.bootstrap.control_plane import open_services
from pipeline.mongo_language import filters
from pipeline.oci import references
from pipeline.registries import wire
from pipeline.registries.service import SecretsOfHosts
from pipeline.secrets.service import count_references
from schemas.registries.registry import Registry, RegistryHistory
from tests.support.registries.registry_door import P, entry
from tests.support.tenants import principal

ENTRIES = 3000
FEW = 120
"""Of an organisation's 1500 entries, what a call that an index answers may look at."""
ADA = principal("mine")
SECRET = "00000000-0000-4000-8000-0000000000aa"
TAGS, NAME, ID, META = f"{P}tags", f"{P}name", f"{P}id", f"{P}metadata"

Call = Callable[[Yard], Awaitable[object]]


class Profile:
    """How the store answered what a call asked about entries and their histories."""

    def __init__(self, yard: Yard) -> None:
        self.yard = yard
        self._database = yard.records.store._database

    async def of(self, call: Call) -> list[dict[str, Any]]:
        await self._database.command("profile", 0)
        await self._database["system.profile"].drop()
        await self._database.command("profile", 2)
        await call(self.yard)
        await self._database.command("profile", 0)
        kinds = {f"{self._database.name}.{kind.collection}" for kind in (Registry, RegistryHistory)}
        asked = self._database["system.profile"].find({"ns": {"$in": list(kinds)}})
        return [each async for each in asked if "planSummary" in each]


@pytest.fixture(scope="module")
async def profile(app: FastAPI, yard: Yard) -> AsyncIterator[Profile]:
    """Over a store of its own, with the entries of two organisations."""
    settings = yard.settings.model_copy(update={"mongo_database": f"test-{uuid.uuid4().hex}"})
    async with open_services(settings, name="profiled") as services:
        await services.records.store.prepare()
        await services.records.store._database[Registry.collection].insert_many(
            [_document(services, number) for number in range(ENTRIES)]
        )
        yield Profile(services)


def _document(yard: Yard, number: int) -> dict[str, Any]:
    at = yard.records.clock() - timedelta(days=1) + timedelta(seconds=number)
    is_due, is_gone = number % 300 == 0, number % 300 == 1
    return to_document(
        Registry(
            uuid=str(uuid.uuid4()),
            org="mine" if number % 2 == 0 or is_gone else "theirs",
            created_at=at,
            updated_at=at,
            changed_at=at,
            check_at=at if is_due else at + timedelta(days=7),
            deleted=is_gone,
            host=f"h{number % 100}.test:5000",
            id=f"r{number}",
            public_url=f"http://h{number % 100}.test:5000",
            name=f"name {number}",
            tags=["all", f"kind-{number % 100}", f"own-{number}"],
            metadata={"team": f"team-{number % 60}", "n": number},
            secret=SECRET if number % 100 == 0 else None,
        )
    )


def query(body: Any, **params: str) -> Call:
    async def call(yard: Yard) -> None:
        found = await yard.registries.service.query(
            ADA, filters.parse(body), documents.SEARCHED, documents.paging(params)
        )
        assert found.total

    return call


NARROW: dict[str, tuple[Call, str]] = {
    "an id": (query({ID: "r20"}), ID),
    "ids": (query({ID: {"$in": ["r20", "r22"]}}), ID),
    "a tag": (query({TAGS: "kind-2"}), TAGS),
    "`$in` of tags": (query({TAGS: {"$in": ["kind-2", "own-4"]}}), TAGS),
    "`$all` of tags": (query({TAGS: {"$all": ["kind-2", "all"]}}), TAGS),
    "a name": (query({NAME: "name 20"}), NAME),
    "names": (query({NAME: {"$in": ["name 20", "name 22"]}}), NAME),
    "a metadata path": (query({f"{META}.team": "team-2"}), f"{META}.team"),
    "`$in` of a metadata path": (query({f"{META}.n": {"$in": [20, 22, 24]}}), f"{META}.n"),
    "a tag and a metadata path": (
        query({"$and": [{TAGS: "all"}, {f"{META}.team": "team-2"}]}),
        f"{META}.team",
    ),
    "a rare tag and a metadata path": (
        query({"$and": [{TAGS: "own-62"}, {f"{META}.team": "team-2"}]}),
        TAGS,
    ),
    "a tag and what has no index": (
        query({TAGS: "kind-2", f"{P}config.a": {"$exists": False}}),
        TAGS,
    ),
    "a secret": (query({f"{P}secret": SECRET}), f"{P}secret"),
    "a tag, in another order": (query({TAGS: "kind-2"}, sort=f"-{NAME}"), TAGS),
    "a page of everything": (query({}), "created_at"),
    "a page of the newest": (query({}, sort="-created_at"), "created_at"),
}


@pytest.mark.parametrize("what", NARROW)
async def test_a_search_that_an_index_narrows_down_uses_it(profile: Profile, what: str) -> None:
    call, key = NARROW[what]
    asked = await profile.of(call)
    assert asked
    for each in asked:
        assert_indexed(each)
        assert f"{key.removeprefix(P)}: " in each["planSummary"], each["planSummary"]
        assert each["docsExamined"] <= FEW, each


WIDE = [
    {TAGS: {"$nin": ["all"]}, f"{P}x": None},
    {f"{P}config.a": None},
    {f"{P}storage_info": {}},
    {f"{P}health": None},
    {f"{P}public_url": {"$gt": ""}},
    {NAME: {"$regex": "9$"}},
    {TAGS: {"$size": 3}},
    {f"{META}.team": {"$ne": "x"}},
    {"updated_at": {"$gt": "2001-01-01"}},
    {"$nor": [{NAME: "x"}]},
]


@pytest.mark.parametrize("body", WIDE, ids=str)
async def test_any_other_search_looks_at_the_organisations_own_entries_only(
    profile: Profile, body: Any
) -> None:
    async def call(yard: Yard) -> None:
        await yard.registries.service.query(
            ADA, filters.parse(body), documents.SEARCHED, documents.paging({"limit": "1000"})
        )

    for each in await profile.of(call):
        assert_indexed(each)
        assert each["docsExamined"] <= ENTRIES / 2 + 10, each


async def a_life(yard: Yard) -> None:
    """Everything that callers, workers and sweeps do with one entry."""
    entries, checks = yard.registries.service, yard.registries.checks
    given = wire.read(entry(id="one", public_url="http://127.0.0.1:9"))
    made = await entries.create(ADA, given, key="key")
    await entries.create(ADA, given, key="key")
    await entries.get(ADA, "one")
    await entries.update(ADA, "one", wire.read_update({NAME: "x"}), key="update")
    await checks.ask(ADA, made.uuid)
    await checks.check(await entries.get(ADA, "one"), actor="test")
    await checks.history(ADA, made.uuid)
    await entries.delete(ADA, "one", key="delete")
    await entries.delete(ADA, "one", key="delete")


async def an_images_registry(yard: Yard) -> None:
    reference = references.parse("h0.test:5000/team/model:1")
    assert await SecretsOfHosts(yard.records.store).find("mine", reference) == SECRET


async def a_secrets_references(yard: Yard) -> None:
    assert await count_references(yard.records.store, "mine", SECRET) == 30


async def the_unsent(yard: Yard) -> None:
    assert (
        await yard.records.store.unsent(
            Registry, before=yard.records.clock() - timedelta(hours=1), limit=9
        )
        == []
    )


CALLS = (a_life, an_images_registry, a_secrets_references, the_unsent)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
async def test_no_call_looks_at_more_than_it_is_about(profile: Profile, call: Call) -> None:
    asked = await profile.of(call)
    assert asked
    for each in asked:
        assert_indexed(each)
        assert each["docsExamined"] <= FEW, each


async def test_sweeps_look_at_what_is_due_or_gone_only(profile: Profile) -> None:
    """They change what they find, so this is the last test of the file."""

    async def sweep(yard: Yard) -> None:
        await yard.registries.checks.sweep()
        await yard.registries.service.purge()

    asked = await profile.of(sweep)
    plans = {each["planSummary"] for each in asked}
    assert {"IXSCAN { check_at: 1 }", "IXSCAN { changed_at: 1 }"} <= plans
    for each in asked:
        assert_indexed(each)
        assert each["docsExamined"] <= ENTRIES / 300 + 1, each


def assert_indexed(each: dict[str, Any]) -> None:
    stages = {stage.split(" ")[0] for stage in each["planSummary"].split(", ") if "{" in stage}
    if each["planSummary"] in ("IDHACK", "EOF"):
        return
    assert stages, each["planSummary"]
    assert stages <= {"IXSCAN", "COUNT_SCAN"}, each["planSummary"]
    assert "COLLSCAN" not in each["planSummary"]
