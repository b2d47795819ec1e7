"""What a health check may look at where nothing listens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import BusUnavailable, StoreUnavailable, YardError
from tests.support.waiting import eventually
from workers import alive
from workers.sweeps import Sweep, running


class Answering:
    def __init__(self, failure: YardError | None = None) -> None:
        self.failure = failure
        self.asked = 0

    async def ping(self) -> None:
        self.asked += 1
        if self.failure is not None:
            raise self.failure


def signs(file: Path, bus: Any, store: Any) -> list[Sweep]:
    (sign,) = alive.signs(str(file), bus, store)
    return [Sweep(sign.name, 0.01, sign.run)]


async def test_the_file_is_touched_again_and_again(tmp_path: Path) -> None:
    file = tmp_path / "alive"
    async with running(signs(file, Answering(), Answering()), jitter=lambda: 0.5):
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
    async with running(signs(file, bus, store), jitter=lambda: 0.5):
        await eventually(lambda: broken.asked >= 2)
        assert not file.exists()
        broken.failure = None
        await eventually(file.exists)


def test_without_a_file_nobody_is_asked() -> None:
    nobody: Any = None
    assert alive.signs("", nobody, nobody) == []
