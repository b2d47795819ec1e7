"""Tasks: background ones that end when they are told to, and many side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")

AGAIN_S = 0.2


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel and wait until all have ended; what they raise is theirs alone.

    Cancels more than once: up to Python 3.11 `asyncio.wait_for`, which the NATS client uses for
    every request, swallows a cancellation that arrives together with the result.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN_S)


async def together(*work: Coroutine[Any, Any, Any]) -> None:
    """Side by side until all have ended or one has failed, which is raised.

    However it is left, nothing of it goes on; see `end` for why a TaskGroup does not do that.
    """
    running = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.gather(*running)
    finally:
        await uncut(end(*running))


async def uncut(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which goes on to its end however often its caller is cancelled.

    Only then is the cancellation raised, with what `work` raised as its cause. For clearing up,
    which must not stay half done.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(asyncio.wait([task]))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled from (None if task.cancelled() else task.exception())
    return task.result()


def is_cancelled() -> bool:
    """Whether a CancelledError that is caught here was meant for the task that runs now, and not
    for something that it awaits."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def for_each(
    items: Iterable[T], work: Callable[[T], Awaitable[object]], *, at_once: int
) -> None:
    """Work on all of them, `at_once` side by side. Raises the first failure once all have ended."""
    turns = asyncio.Semaphore(at_once)

    async def in_turn(item: T) -> None:
        async with turns:
            await work(item)

    outcomes = await asyncio.gather(*map(in_turn, items), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
