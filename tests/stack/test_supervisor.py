"""On pieces that are real but do nothing."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from pipeline.errors import Misconfigured
from pipeline.stack import supervisor
from pipeline.stack.piece import Piece
from pipeline.stack.supervisor import Supervisor

Make = Callable[..., "Idler"]


class Idler(Piece):
    def __init__(self, name: str, folder: Path, script: str, diary: list[str]) -> None:
        self.name = name
        super().__init__(folder)
        self.script = script
        self.diary = diary
        self.start_timeout_s = 5

    def prepare(self) -> None:
        self.diary.append(f"start {self.name}")

    def command(self) -> Sequence[str]:
        return ["sh", "-c", self.script]

    async def ready(self) -> bool:
        return (self.folder / "ready").exists()

    async def clean(self) -> None:
        self.diary.append(f"stop {self.name}")


@pytest.fixture
def diary() -> list[str]:
    return []


@pytest.fixture
def make(tmp_path: Path, diary: list[str]) -> Make:
    def make(name: str, script: str | None = None) -> Idler:
        folder = tmp_path / name
        return Idler(name, folder, script or f"touch {folder}/ready; exec sleep 60", diary)

    return make


@pytest.fixture
async def supervise() -> AsyncIterator[Callable[..., Supervisor]]:
    made: list[Supervisor] = []

    def supervise(*stages: Sequence[Piece], report: Callable[[str], None] = print) -> Supervisor:
        made.append(Supervisor(stages, report=report))
        return made[-1]

    yield supervise
    for one in made:
        await one.stop()


async def test_stages_start_in_order_and_stop_in_reverse(
    make: Make, supervise: Callable[..., Supervisor], diary: list[str]
) -> None:
    reports: list[str] = []
    stack = supervise([make("nats")], [make("api")], report=reports.append)
    await stack.start()
    assert reports == ["nats is ready", "api is ready"]
    await stack.stop()
    assert diary == ["start nats", "start api", "stop api", "stop nats"]


async def test_a_piece_that_does_not_start_stops_all_and_says_why(
    make: Make, supervise: Callable[..., Supervisor]
) -> None:
    nats, api = make("nats"), make("api", "echo 'error: no database' >&2; exit 3")
    with pytest.raises(Misconfigured, match=r"api ended with 3 .*api\.log.*error: no database"):
        await supervise([nats], [api]).start()
    assert not nats.running


async def test_a_piece_that_never_gets_ready_is_given_up(
    make: Make, supervise: Callable[..., Supervisor]
) -> None:
    api = make("api", "sleep 60")
    api.start_timeout_s = 0.1
    with pytest.raises(Misconfigured, match=r"not ready after 0\.1 s"):
        await supervise([api]).start()
    assert not api.running


async def test_a_piece_that_died_is_started_again(
    make: Make, supervise: Callable[..., Supervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "BACKOFF_FIRST_S", 0.01)
    again = asyncio.Event()
    reports: list[str] = []

    def report(text: str) -> None:
        reports.append(text)
        if reports.count("nats is ready") == 2:
            again.set()

    nats = make("nats")
    await supervise([nats], report=report).start()
    assert nats.pid is not None
    os.kill(nats.pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        await again.wait()
    assert nats.running
    assert "nats died; starting it again in 0.01 s" in reports


async def test_a_piece_that_keeps_dying_is_started_at_growing_intervals(
    make: Make, supervise: Callable[..., Supervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "BACKOFF_FIRST_S", 0.01)
    monkeypatch.setattr(supervisor, "BACKOFF_MAX_S", 0.02)
    enough = asyncio.Event()
    deaths: list[str] = []

    def report(text: str) -> None:
        if "died" in text:
            deaths.append(text.split()[-2])
        if len(deaths) == 4:
            enough.set()

    nats = make("nats")
    await supervise([nats], report=report).start()
    nats.script = "exit 1"
    (nats.folder / "ready").unlink()
    await nats.kill()
    async with asyncio.timeout(10):
        await enough.wait()
    assert deaths == ["0.01", "0.02", "0.02", "0.02"]


async def test_stopping_twice_is_the_same_as_once(
    make: Make, supervise: Callable[..., Supervisor]
) -> None:
    stack = supervise([make("nats")])
    await stack.start()
    await stack.stop()
    await stack.stop()
