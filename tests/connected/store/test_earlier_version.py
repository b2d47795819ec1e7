"""A database that the version before wrote, which named the fields of registries otherwise."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection
from pymongo import IndexModel

from api.registry_db import documents
from pipeline.adapters.store import renaming
from pipeline.adapters.store.store import Store
from pipeline.errors import AlreadyExists, LostRace
from schemas.registries.registry import Registry, RegistryHistory
from tests.support.records import message

P = "container_registry_"
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
HEALTH = {
    "reachable": True,
    "status_code": 200,
    "reason": "OK",
    "url": "http://r.test",
    "oci": True,
    "auth_required": False,
    "credentials_ok": None,
    "latency_ms": 1.5,
    "checked_at": AT,
    "error_kind": None,
}
SECRET = "0d9d4d4e-5c3a-4b0e-9a43-0c2d1f0e9b8a"

Collection = AsyncIOMotorCollection[dict[str, Any]]


def before(number: int, **changed: Any) -> dict[str, Any]:
    """As revision ec2d5be stores an entry: every field, in its order."""
    return {
        "org": f"org-{number % 3}",
        "revision": 4,
        "created_at": AT,
        "updated_at": AT,
        "reason": None,
        "outbox": [message("waiting").model_dump()] if number % 1000 == 7 else [],
        f"{P}id": f"r{number}",
        f"{P}name": f"registry {number}",
        f"{P}metadata": {"team": f"team-{number % 10}", f"{P}name": "kept"},
        f"{P}tags": ["a", f"t{number}"],
        f"{P}public_url": "http://r.test",
        f"{P}image_prefix": "r.test/team",
        f"{P}config": {"n": number},
        f"{P}storage_info": {"storage_type": "fs"},
        f"{P}secret": SECRET if number % 2 else None,
        f"{P}health": HEALTH if number % 2 else None,
        "host": "r.test",
        "deleted": False,
        "check_at": AT,
        "failures": 2,
        "changed_at": AT,
        "created_by": "user:ada",
        "request_hash": "h",
        "applied": ["k"],
        "asked": [{"id": "a", "actor": "user:ada"}],
        "_id": str(uuid.UUID(int=number + 1)),
    } | changed


OLDEST = [("created_at", 1), (f"{P}id", 1)]
LISTED = [("org", 1), ("deleted", 1)]
INDEXES = [
    IndexModel([("org", 1), ("created_at", -1), ("_id", -1)], name="org_newest"),
    IndexModel(
        [("outbox.time", 1)],
        name="unsent",
        partialFilterExpression={"outbox.time": {"$exists": True}},
    ),
    IndexModel(
        [("org", 1), (f"{P}id", 1)],
        name="id_taken",
        unique=True,
        partialFilterExpression={"deleted": False},
    ),
    IndexModel([*LISTED, *OLDEST], name="oldest"),
    IndexModel([*LISTED, ("created_at", -1), (f"{P}id", 1)], name="newest"),
    IndexModel([*LISTED, (f"{P}tags", 1), *OLDEST], name="tags"),
    IndexModel([*LISTED, (f"{P}name", 1), *OLDEST], name="name"),
    IndexModel([(f"{P}metadata.$**", 1)], name="metadata"),
    IndexModel([("host", 1), ("org", 1)], name="host", partialFilterExpression={"deleted": False}),
    IndexModel([("check_at", 1)], name="due", partialFilterExpression={"deleted": False}),
    IndexModel([("changed_at", 1)], name="gone", partialFilterExpression={"deleted": True}),
    IndexModel(
        [(f"{P}secret", 1), ("org", 1)],
        name="secret",
        partialFilterExpression={f"{P}secret": {"$gt": ""}},
    ),
]


@pytest.fixture
async def old(mongo_url: str) -> AsyncIterator[Collection]:
    """The collection in a database of its own."""
    client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(mongo_url, tz_aware=True)
    database = client[f"test-{uuid.uuid4().hex}"]
    await database[Registry.collection].create_indexes(INDEXES)
    try:
        yield database[Registry.collection]
    finally:
        await client.drop_database(database.name)
        client.close()


@pytest.fixture
async def new(mongo_url: str, old: Collection) -> AsyncIterator[Store]:
    """This version on it, not prepared yet."""
    async with Store.open(mongo_url, old.database.name) as store:
        yield store


async def test_an_entry_of_before_is_what_it_was(old: Collection, new: Store) -> None:
    await old.insert_many([before(7), before(8, deleted=True)])
    history = {"org": "org-1", "revision": 1, "created_at": AT, "updated_at": AT, "reason": None}
    checks = old.database[RegistryHistory.collection]
    await checks.insert_one(history | {"outbox": [], "checks": [HEALTH], "_id": before(7)["_id"]})
    await new.prepare()
    found = await new.get(Registry, before(7)["_id"], org="org-1")
    assert (found.id, found.name, found.tags) == ("r7", "registry 7", ["a", "t7"])
    assert found.metadata == {"team": "team-7", f"{P}name": "kept"}
    assert (found.revision, found.updated_at, found.changed_at) == (5, AT, AT)
    assert (found.secret, found.failures, found.applied) == (SECRET, 2, ["k"])
    assert [each.id for each in found.asked] == ["a"]
    assert [each.id for each in found.outbox] == [message("waiting").id]
    assert found.health is not None
    assert found.health.model_dump() == HEALTH
    # What its callers see.
    shown = documents.shown(found.model_dump())
    given = before(7)
    assert {name: shown[name] for name in shown if name.startswith(P)} == {
        name: value for name, value in given.items() if name.startswith(P)
    } | {f"{P}health": HEALTH | {"checked_at": "2026-03-01T12:00:00.000Z"}}
    gone = await new.get(Registry, before(8)["_id"], org="org-2")
    assert (gone.deleted, gone.id) == (True, "r8")
    kept = await new.get(RegistryHistory, before(7)["_id"], org="org-1")
    assert (kept.revision, len(kept.checks)) == (1, 1)
    assert await old.count_documents({f"{P}id": {"$exists": True}}) == 0


async def test_its_indexes_follow(old: Collection, new: Store) -> None:
    await old.insert_many(before(number) for number in range(30))
    await new.prepare()
    known = await old.index_information()
    assert "id_taken" not in known
    named = {name for name, info in known.items() if P in str(info)}
    assert named == {"earlier_version"}
    twin = await new.get(Registry, before(0)["_id"], org="org-0")
    with pytest.raises(AlreadyExists) as refused:
        await new.insert(twin.model_copy(update={"uuid": str(uuid.uuid4())}))
    assert refused.value.facts == {"index": "id_used"}
    await new.prepare()
    assert await old.index_information() == known


async def test_an_empty_directory_of_before_takes_entries(old: Collection, new: Store) -> None:
    await old.insert_many([before(0), before(3)])
    await new.prepare()
    made = [await new.get(Registry, before(number)["_id"], org="org-0") for number in (0, 3)]
    await old.delete_many({})
    await old.create_indexes(INDEXES[2:3])
    await new.prepare()
    for each in made:
        await new.insert(each)


async def test_ten_thousand_entries_are_carried_over_in_bounded_batches(
    old: Collection, new: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await old.insert_many(before(number) for number in range(10_000))
    sizes, outdated = [], renaming._outdated

    async def counted(*given: Any) -> list[str]:
        sizes.append(len(found := await outdated(*given)))
        return found

    monkeypatch.setattr(renaming, "_outdated", counted)
    await new.prepare()
    assert max(sizes) == renaming.BATCH
    assert sum(sizes) == 10_000
    assert len(await new.find(Registry, org="org-1")) == 3333
    assert await old.count_documents({"revision": 5}) == 10_000


async def test_what_was_killed_goes_on_at_the_next_start(
    old: Collection, new: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await old.insert_many(before(number) for number in range(1000))
    asked, outdated = 0, renaming._outdated

    async def dying(*given: Any) -> list[str]:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise asyncio.CancelledError
        return await outdated(*given)

    monkeypatch.setattr(renaming, "_outdated", dying)
    with pytest.raises(asyncio.CancelledError):
        await new.prepare()
    assert await old.count_documents({f"{P}id": {"$exists": True}}) == 1000 - 2 * renaming.BATCH
    await new.prepare()
    assert await old.count_documents({"revision": 5, "id": {"$gt": ""}}) == 1000


async def test_several_processes_may_start_at_once(old: Collection, mongo_url: str) -> None:
    await old.insert_many(before(number) for number in range(3000))

    async def start() -> None:
        async with Store.open(mongo_url, old.database.name) as store:
            await store.prepare()

    await asyncio.gather(*(start() for _ in range(4)))
    # Each of them was moved once.
    assert await old.count_documents({"revision": 5, "id": {"$gt": ""}}) == 3000
    known = await old.index_information()
    assert {"id_used", "oldest", "newest", "tags", "name", "metadata", "secret"} <= set(known)


async def test_a_process_of_before_that_still_runs_breaks_nothing(
    old: Collection, new: Store, caplog: pytest.LogCaptureFixture
) -> None:
    await old.insert_one(before(0))
    await new.prepare()
    # Its guarded write, on what it had read.
    guarded = {"_id": before(0)["_id"], "revision": 4}
    lost = await old.update_one(guarded, {"$set": {f"{P}name": "x"}, "$inc": {"revision": 1}})
    assert lost.matched_count == 0
    # What it enters is there after the next sweep, also under an id that somebody has.
    await old.insert_many([before(3), before(6, **{f"{P}id": "r0"})])
    await new.carry_over(Registry)
    found = await new.find(Registry, org="org-0", sort=[("_id", 1)])
    assert [each.id for each in found] == ["r0", "r3", before(6)["_id"]]
    assert "entered twice" in caplog.text
    with pytest.raises(LostRace):
        await new.change(found[0].model_copy(update={"revision": 4}), {"name": "x"}, at=AT)


async def test_looking_for_entries_of_before_reads_nothing(old: Collection, new: Store) -> None:
    await old.insert_many(before(number) for number in range(300))
    await new.prepare()
    outdated = renaming.RENAMINGS[Registry].outdated
    stats = (await old.find(outdated).explain())["executionStats"]
    assert (stats["totalKeysExamined"], stats["totalDocsExamined"]) == (0, 0)
