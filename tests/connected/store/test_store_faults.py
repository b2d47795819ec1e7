"""What the store does when MongoDB dies, hangs or changes its mind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from bson.errors import InvalidDocument
from pymongo import AsyncMongoClient
from pymongo import errors as driver

from pipeline.adapters.store import store as adapter
from pipeline.adapters.store.store import Store, translated
from pipeline.errors import (
    AlreadyExists,
    InvalidInput,
    LostRace,
    Misconfigured,
    Overloaded,
    StoreUnavailable,
    TooLarge,
    YardError,
)
from pipeline.stack.pieces.mongod import MongodPiece
from schemas.image import Image
from schemas.states import ImageStatus
from tests.support.records import ORG, after, image


@pytest.fixture
async def own_store(own_mongod: MongodPiece) -> AsyncIterator[Store]:
    async with Store.open(own_mongod.url, "faults") as store:
        await store.prepare()
        yield store


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same deadlines, scaled down. Ask for it before the store."""
    monkeypatch.setattr(adapter, "OPERATION_S", 0.8)
    monkeypatch.setattr(adapter, "PATIENCE_S", 2.0)


async def test_a_dead_mongod_is_a_store_unavailable_within_seconds(
    hasty: None, own_mongod: MongodPiece, own_store: Store
) -> None:
    mine = await own_store.insert(image())
    await own_mongod.kill()
    calls: list[Callable[[], object]] = [
        own_store.ping,
        lambda: own_store.get(Image, mine.uuid, org=ORG),
        lambda: own_store.find(Image, org=ORG),
        lambda: own_store.count(Image, org=ORG),
        lambda: own_store.insert(image()),
        lambda: own_store.change(mine, {}, at=after(1)),
        lambda: own_store.update(Image, mine.uuid, org=ORG, guard={}, update={"$set": {"a": 1}}),
        lambda: own_store.delete(Image, mine.uuid, org=ORG),
        lambda: own_store.clear_outbox(Image, {mine.uuid: ["m1"]}),
        lambda: own_store.unsent(Image, before=after(1), limit=1),
        own_store.prepare,
    ]
    started = time.monotonic()
    # More of them than the driver has threads: those that wait for one must not wait long either.
    answers = await asyncio.gather(
        *(call() for call in calls * 5),  # type: ignore[misc]
        return_exceptions=True,
    )
    assert {type(answer) for answer in answers} == {StoreUnavailable}
    assert time.monotonic() - started < adapter.PATIENCE_S + 1


async def test_a_hanging_mongod_is_a_store_unavailable_and_then_back(
    hasty: None, own_mongod: MongodPiece, own_store: Store
) -> None:
    own_mongod.pause()
    with pytest.raises(StoreUnavailable):
        await own_store.ping()
    own_mongod.resume()
    await _until_it_answers(own_store)


async def test_an_acknowledged_insert_survives_kill_9(
    hasty: None, own_mongod: MongodPiece, own_store: Store
) -> None:
    acknowledged: list[str] = []
    enough = asyncio.Event()

    async def insert_until_it_fails() -> None:
        while True:
            try:
                mine = await own_store.insert(image())
            except StoreUnavailable:
                return
            acknowledged.append(mine.uuid)
            if len(acknowledged) >= 200:
                enough.set()

    async with asyncio.timeout(60), asyncio.TaskGroup() as writers:
        for _ in range(8):
            writers.create_task(insert_until_it_fails())
        await enough.wait()
        await own_mongod.kill()
    await own_mongod.start()
    await _until_it_answers(own_store)
    there = {each.uuid for each in await own_store.find(Image, org=ORG)}
    assert set(acknowledged) <= there


async def test_a_primary_that_steps_down_in_mid_write_loses_and_doubles_nothing(
    own_mongod: MongodPiece, own_store: Store
) -> None:
    mine = await own_store.insert(image())
    started, done = asyncio.Event(), asyncio.Event()

    async def count_up() -> int:
        written, latest = 0, mine
        while not done.is_set():
            latest = await own_store.change(latest, {"size_bytes": written + 1}, at=after(1))
            written += 1
            started.set()
        return written

    async with AsyncMongoClient(own_mongod.url) as client:
        counting = asyncio.create_task(count_up())
        await started.wait()
        await client.admin.command("replSetStepDown", 1, force=True)
        await own_store.insert(image())
        done.set()
        written = await counting
    final = await own_store.get(Image, mine.uuid, org=ORG)
    assert (final.size_bytes, final.revision) == (written, written + 1)


async def test_the_loser_of_a_race_still_loses_after_a_restart(
    own_mongod: MongodPiece, own_store: Store
) -> None:
    mine = await own_store.insert(image())
    won = await own_store.change(mine, {}, at=after(1), status=ImageStatus.VALIDATING)
    await own_mongod.kill()
    await own_mongod.start()
    await _until_it_answers(own_store)
    with pytest.raises(LostRace):
        await own_store.change(mine, {}, at=after(2), status=ImageStatus.FAILED)
    assert await own_store.get(Image, mine.uuid, org=ORG) == won


async def _until_it_answers(store: Store) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                return await store.ping()
            except StoreUnavailable:
                continue


# --- the map of exceptions --------------------------------------------------------------------


def _subclasses(root: type[Exception]) -> Iterator[type[Exception]]:
    yield root
    for child in root.__subclasses__():
        yield from _subclasses(child)


def _made(kind: type[Exception]) -> Exception:
    if issubclass(kind, driver.EncryptedCollectionError):
        return kind(ValueError("secret"), {})
    if issubclass(kind, driver.EncryptionError):
        return kind(ValueError("secret"))
    if issubclass(kind, driver.ClientBulkWriteException):
        return kind({}, False)
    return kind({}) if issubclass(kind, driver.BulkWriteError) else kind("secret")


@pytest.mark.parametrize("kind", sorted(set(_subclasses(driver.PyMongoError)), key=str))
def test_every_exception_of_the_driver_has_one_of_ours(kind: type[Exception]) -> None:
    ours = translated(_made(kind))
    assert isinstance(ours, YardError)
    assert "secret" not in ours.message


@pytest.mark.parametrize(
    ("theirs", "ours", "retryable"),
    [
        (driver.DuplicateKeyError("x", 11000, {"errmsg": "c index: i dup"}), AlreadyExists, False),
        (driver.NetworkTimeout("x"), StoreUnavailable, True),
        (driver.NotPrimaryError("x"), StoreUnavailable, True),
        (driver.ServerSelectionTimeoutError("x"), StoreUnavailable, True),
        (driver.WTimeoutError("x"), StoreUnavailable, True),
        (driver.InvalidOperation("closed"), StoreUnavailable, True),
        (driver.OperationFailure("no space", 14031), StoreUnavailable, True),
        (driver.WaitQueueTimeoutError("x"), Overloaded, True),
        (driver.OperationFailure("x", 18), Misconfigured, False),
        (driver.OperationFailure("x", 13), Misconfigured, False),
        (driver.InvalidURI("x"), Misconfigured, False),
        (driver.OperationFailure("bad $regex", 51091), InvalidInput, False),
        (driver.DocumentTooLarge("x"), TooLarge, False),
        (InvalidDocument("x"), InvalidInput, False),
        (OverflowError("x"), InvalidInput, False),
        (TimeoutError(), StoreUnavailable, True),
    ],
)
def test_what_each_failure_means(theirs: Exception, ours: type[YardError], retryable: bool) -> None:
    error = translated(theirs)
    assert type(error) is ours
    assert error.retryable is retryable
