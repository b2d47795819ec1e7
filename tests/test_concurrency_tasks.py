"""Background work ends when it is told to, also where a cancellation gets lost on the way."""

from __future__ import annotations

import asyncio

import pytest

from pipeline import concurrency


class Deaf:
    """Swallows the first cancellation, as `asyncio.wait_for` may up to Python 3.11."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.ended = False

    async def run(self) -> None:
        self.started.set()
        try:
            await asyncio.Future()
        except asyncio.CancelledError:
            self.started.set()
        try:
            await asyncio.Future()
        finally:
            self.ended = True


async def test_a_task_that_swallows_a_cancellation_ends_all_the_same() -> None:
    deaf = Deaf()
    task = asyncio.create_task(deaf.run())
    await deaf.started.wait()
    async with asyncio.timeout(30):
        await concurrency.cancel_and_wait(task)
    assert deaf.ended


async def test_the_first_failure_ends_the_others_and_is_raised() -> None:
    deaf = Deaf()

    async def fail() -> None:
        await deaf.started.wait()
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        async with asyncio.timeout(30):
            await concurrency.gather_or_cancel(deaf.run(), fail())
    assert deaf.ended


async def test_what_is_cancelled_from_outside_leaves_nothing_running() -> None:
    first, second = Deaf(), Deaf()
    both = asyncio.create_task(concurrency.gather_or_cancel(first.run(), second.run()))
    await first.started.wait()
    await second.started.wait()
    async with asyncio.timeout(30):
        await concurrency.cancel_and_wait(both)
    assert both.cancelled()
    assert first.ended
    assert second.ended


async def test_what_uncut_work_raises_is_told_with_the_cancellation() -> None:
    go = asyncio.Event()

    async def work() -> None:
        await go.wait()
        raise ValueError("lost")

    task = asyncio.create_task(concurrency.run_to_completion(work()))
    await asyncio.sleep(0)
    task.cancel()
    go.set()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert isinstance(caught.value.__cause__, ValueError)


async def test_uncut_work_ends_before_its_caller_is_cancelled() -> None:
    go, done = asyncio.Event(), []

    async def work() -> None:
        await go.wait()
        done.append(True)

    task = asyncio.create_task(concurrency.run_to_completion(work()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == [True]


async def test_an_event_comes_within_a_time_or_not() -> None:
    event = asyncio.Event()
    assert not await concurrency.comes_within(event, 0.01)
    asyncio.get_running_loop().call_later(0.01, event.set)
    assert await concurrency.comes_within(event, 5)
    assert await concurrency.comes_within(event, 0), "it is there already"
