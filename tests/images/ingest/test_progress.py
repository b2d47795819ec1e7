from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, cast

import pytest

from pipeline.errors import Conflict, NotFound, StoreUnavailable, YardError
from pipeline.images.ingest.progress import Meter
from pipeline.records.kernel import Records
from tests.support.records import image
from tests.support.waiting import eventually


class Failing:
    """A store that answers a change only when it is told to, and then with an error."""

    def __init__(self, error: YardError) -> None:
        self._error = error
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    async def change(self, record: Any, values: Any, **how: Any) -> Any:
        self.asked.set()
        await self.go.wait()
        raise self._error

    async def get(self, kind: Any, uuid: str, *, org: str) -> Any:
        raise self._error


def meter(store: Failing) -> Meter:
    outbox: Any = None
    return Meter(Records(cast(Any, store), outbox), image())


@pytest.mark.parametrize("error", [NotFound("gone"), StoreUnavailable("away")])
async def test_what_the_store_says_at_the_end_is_not_lost(error: YardError) -> None:
    lost: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: lost.append(context))
    store = Failing(error)
    try:
        async with meter(store) as open_meter:
            open_meter.note(10, 100)
            await store.asked.wait()
            loop.call_soon(store.go.set)
    finally:
        loop.set_exception_handler(None)
    assert lost == []


async def test_an_image_that_is_gone_ends_the_flow() -> None:
    store = Failing(NotFound("gone"))
    store.go.set()

    async def flow(open_meter: Meter) -> None:
        async with asyncio.timeout(30):
            while True:
                open_meter.note(10, 100)
                await asyncio.sleep(0)

    async with meter(store) as open_meter:
        with pytest.raises(Conflict, match="deleted"):
            await flow(open_meter)


class Kept:
    """A store and an outbox that take everything."""

    def __init__(self) -> None:
        self.image = image()
        self.at = self.image.created_at
        self.told: list[int] = []
        self.records = Records(cast(Any, self), cast(Any, self), clock=lambda: self.at)

    async def change(self, record: Any, values: Any, **how: Any) -> Any:
        known = {**values, "status": how["status"], "revision": record.revision + 1}
        self.image = record.model_copy(update=known)
        self.told += [each.data["progress"]["percentage"] for each in how["messages"]]
        return self.image

    async def send(self, record: Any) -> bool:
        return True

    async def arrive(self, percent: int, *, after_s: float, interval_s: float = 1) -> None:
        """A request of its own, as of an upload in many pieces."""
        self.at += timedelta(seconds=after_s)
        async with Meter(self.records, self.image, interval_s=interval_s) as meter:
            meter.note(percent, 100)


async def test_many_small_requests_tell_progress_once_per_interval_and_write_it_each_time() -> None:
    kept = Kept()
    for percent in range(1, 40):
        await kept.arrive(percent, after_s=0.1)
        assert kept.image.upload.percentage == percent
    assert kept.told == [1, 11, 21, 31]


async def test_without_an_interval_every_percent_is_told() -> None:
    kept = Kept()
    for percent in (1, 2, 2, 3):
        await kept.arrive(percent, after_s=0, interval_s=0)
    assert kept.told == [1, 2, 3]


async def test_what_was_not_told_is_told_once_it_may_be() -> None:
    kept = Kept()
    await kept.arrive(5, after_s=0)
    async with Meter(kept.records, kept.image, interval_s=0.05) as meter:
        meter.note(9, 100)
        await eventually(lambda: kept.image.upload.percentage == 9)
        kept.at += timedelta(seconds=1)
        await eventually(lambda: kept.told == [5, 9])
