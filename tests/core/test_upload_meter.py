from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline.core.upload_meter import Meter
from pipeline.errors import Conflict, NotFound, StoreUnavailable, YardError
from tests.support.records import image


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
    given: Any = (store, None, image(), lambda: datetime.now(UTC))
    return Meter(*given)


@pytest.mark.parametrize("error", [NotFound("gone"), StoreUnavailable("away")])
async def test_what_the_store_says_at_the_end_is_not_lost(error: YardError) -> None:
    lost: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: lost.append(context))
    store = Failing(error)
    try:
        async with meter(store) as open_meter:
            await open_meter.note(10, 100)
            await store.asked.wait()
            loop.call_soon(store.go.set)
    finally:
        loop.set_exception_handler(None)
    assert lost == []


async def test_an_image_that_is_gone_ends_the_flow() -> None:
    store = Failing(NotFound("gone"))
    store.go.set()

    async def flow(open_meter: Meter) -> None:
        async with asyncio.timeout(5):
            while True:
                await open_meter.note(10, 100)
                await asyncio.sleep(0)

    async with meter(store) as open_meter:
        with pytest.raises(Conflict, match="deleted"):
            await flow(open_meter)
