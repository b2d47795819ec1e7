"""Periodic work: at its pace, never twice at once, not stopped by failures."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import BusUnavailable, StoreUnavailable, YardError
from tests.support.waiting import eventually
from workers.app import Sweep, alive, running


def middle() -> float:
    return 0.5


async def test_a_sweep_runs_again_and_again_until_the_end() -> None:
    runs = 0

    async def sweep() -> None:
        nonlocal runs
        runs += 1

    async with running([Sweep("s", 0.01, sweep)], jitter=middle):
        await eventually(lambda: runs >= 5)
    ended = runs
    await asyncio.sleep(0.05)
    assert runs == ended


async def test_a_sweep_does_not_overlap_itself_and_holds_up_no_other() -> None:
    slow_runs, quick_runs, at_once = 0, 0, 0
    release = asyncio.Event()

    async def slow() -> None:
        nonlocal slow_runs, at_once
        at_once += 1
        assert at_once == 1
        slow_runs += 1
        await release.wait()
        at_once -= 1

    async def quick() -> None:
        nonlocal quick_runs
        quick_runs += 1

    async with running([Sweep("a", 0.01, slow), Sweep("b", 0.01, quick)], jitter=middle):
        await eventually(lambda: quick_runs >= 10)
        assert slow_runs == 1
        release.set()
        await eventually(lambda: slow_runs >= 2)


@pytest.mark.parametrize("error", [StoreUnavailable("the store is away"), KeyError("a bug")])
async def test_a_failing_sweep_is_logged_and_runs_again(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    runs = 0

    async def sweep() -> None:
        nonlocal runs
        runs += 1
        raise error

    with caplog.at_level(logging.WARNING):
        async with running([Sweep("s", 0.01, sweep)], jitter=middle):
            await eventually(lambda: runs >= 3)
    assert str(error) in caplog.text


async def test_pauses_are_drawn_around_the_interval() -> None:
    draws = iter([0.0, 1.0])
    loop = asyncio.get_running_loop()
    times = [loop.time()]

    async def sweep() -> None:
        times.append(loop.time())

    async with running([Sweep("s", 0.1, sweep)], jitter=lambda: next(draws, 0.5)):
        await eventually(lambda: len(times) >= 3)
    assert 0.05 <= times[1] - times[0] < 0.15 <= times[2] - times[1]


class Answering:
    def __init__(self, failure: YardError | None = None) -> None:
        self.failure = failure
        self.asked = 0

    async def ping(self) -> None:
        self.asked += 1
        if self.failure is not None:
            raise self.failure


def signs(file: Path, bus: Any, store: Any) -> list[Sweep]:
    (sign,) = alive(str(file), bus, store)
    return [Sweep(sign.name, 0.01, sign.run)]


async def test_the_file_is_touched_again_and_again(tmp_path: Path) -> None:
    file = tmp_path / "alive"
    async with running(signs(file, Answering(), Answering()), jitter=middle):
        await eventually(file.exists)
        file.unlink()
        await eventually(file.exists)


@pytest.mark.parametrize("away", [BusUnavailable("b"), StoreUnavailable("s")], ids=str)
async def test_it_is_not_touched_while_the_worker_cannot_work(
    tmp_path: Path, away: YardError
) -> None:
    file = tmp_path / "alive"
    is_bus = isinstance(away, BusUnavailable)
    broken = Answering(away)
    bus, store = (broken, Answering()) if is_bus else (Answering(), broken)
    async with running(signs(file, bus, store), jitter=middle):
        await eventually(lambda: broken.asked >= 2)
        assert not file.exists()
        broken.failure = None
        await eventually(file.exists)


def test_without_a_file_nobody_is_asked() -> None:
    nobody: Any = None
    assert alive("", nobody, nobody) == []
