import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from pipeline.errors import Misconfigured
from pipeline.stack.pieces.dockerd import DockerdPiece
from pipeline.stack.processes import piece as piece_module
from pipeline.stack.processes.piece import Piece, Supervisor, program


class Sleeper(Piece):
    name = "sleeper"

    def prepare(self) -> None:
        (self.folder / "prepared").touch()

    def command(self) -> Sequence[str]:
        return ["sleep", "60"]

    async def ready(self) -> bool:
        return True


def test_a_missing_program_is_named_with_the_remedy() -> None:
    with pytest.raises(Misconfigured, match="no-such-program is missing: run `make setup`"):
        program("no-such-program", remedy="run `make setup`.")


def test_programs_in_the_system_folders_are_found_whatever_the_path_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert program("iptables", remedy="").endswith("/iptables")


async def test_starting_a_piece_that_runs_changes_nothing(tmp_path: Path) -> None:
    piece = Sleeper(tmp_path)
    await piece.start()
    first = piece.pid
    await piece.start()
    assert piece.pid == first
    await piece.restart()
    assert piece.pid not in (None, first)
    await piece.stop()
    await piece.stop()
    assert piece.pid is None


async def test_a_piece_that_was_never_started_can_be_stopped_and_waited_for(tmp_path: Path) -> None:
    piece = Sleeper(tmp_path)
    piece.pause()
    piece.resume()
    await piece.kill()
    await piece.stop()
    await piece.wait()
    assert not piece.running


def test_the_address_of_an_engine_fits_a_socket_however_deep_its_folder_lies(
    tmp_path: Path,
) -> None:
    deep = DockerdPiece(tmp_path.joinpath(*["deep"] * 30))
    assert len(deep.host.removeprefix("unix://")) < 108
    assert len(deep.bridge.name) <= 15


async def test_a_piece_is_not_ready_because_somebody_else_answers_on_its_port(
    tmp_path: Path,
) -> None:
    class Late(Sleeper):
        name = "late"
        start_timeout_s = 0.3

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        piece = Late(tmp_path)
        piece.port = listener.getsockname()[1]
        with pytest.raises(Misconfigured, match="late was not ready"):
            await piece.start()
    assert not piece.running


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
    monkeypatch.setattr(piece_module, "BACKOFF_FIRST_S", 0.01)
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
    monkeypatch.setattr(piece_module, "BACKOFF_FIRST_S", 0.01)
    monkeypatch.setattr(piece_module, "BACKOFF_MAX_S", 0.02)
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
