"""`?wait=`: an answer that holds the outcome, if it comes in time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

from fastapi import Query

from pipeline.core.event_watches import Watch
from pipeline.errors import NotFound
from schemas.base import StatefulRecord

R = TypeVar("R", bound=StatefulRecord)

Wait = Annotated[
    float,
    Query(
        ge=0,
        allow_inf_nan=False,
        description="Seconds to wait for the outcome, cut to the server's maximum. When they are"
        " over the answer is 202 with the record as it is; the work goes on.",
    ),
]


async def outcome(
    watch: Watch,
    record: R,
    *,
    load: Callable[[], Awaitable[R]],
    is_settled: Callable[[R], bool],
    wait_s: float,
) -> R:
    """The record once it is settled, or as it is after `wait_s`.

    `watch` was entered before the work was asked for; events say when to look, the store says
    what is.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + wait_s
    while not is_settled(record):
        moved = await watch.moved(max(0, end - loop.time()))
        record = await _present(record, load)
        if not moved:
            break
    return record


async def _present(last: R, load: Callable[[], Awaitable[R]]) -> R:
    """A deleted record is not found any more: then it is what was seen last, but deleted."""
    try:
        return await load()
    except NotFound:
        return last.model_copy(update={"status": type(last.status)("DELETED")})
