import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.errors import Misconfigured
from pipeline.stack.dockerd import DockerdPiece
from pipeline.stack.piece import Piece, program


class Idler(Piece):
    name = "idler"

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
    piece = Idler(tmp_path)
    await piece.start()
    first = piece.pid
    await piece.start()
    assert piece.pid == first
    await piece.restart()
    assert piece.pid not in (None, first)
    await piece.stop()
    await piece.stop()
    assert piece.pid is None


async def test_a_piece_that_was_never_started_can_be_stopped_and_waited_for(
    tmp_path: Path,
) -> None:
    piece = Idler(tmp_path)
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
    class Late(Idler):
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
