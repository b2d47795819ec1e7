from __future__ import annotations

import asyncio

import pytest

from pipeline import tasks


async def test_what_uncut_work_raises_is_told_with_the_cancellation() -> None:
    go = asyncio.Event()

    async def work() -> None:
        await go.wait()
        raise ValueError("lost")

    task = asyncio.create_task(tasks.uncut(work()))
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

    task = asyncio.create_task(tasks.uncut(work()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == [True]
