"""What `images push` says and how it ends, against a server that says what a test likes."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from typer.testing import Result

from cli import uploads
from cli.commands.images import app
from cli.console import DENIED, FAILED, UNREACHABLE, USAGE
from tests.support.archives.image_archives import docker_archive
from tests.support.archives.images import busybox_image
from tests.support.command_line import CliRunner
from tests.support.http.said_yard import Yard

INTERRUPTED = 130
ADDRESS = "/yard/v1/uploads/one"
ARCHIVE = docker_archive(busybox_image(random_layers=(3_000_000,)), "team/model:1")
IMAGE = {"name": "model", "reference": "host/images/acme/model:1", "digest": "sha256:0"}
DONE = {"status": "completed", "image": IMAGE, "message": None, "technicalInformation": None}

Said = Callable[[httpx.Request], httpx.Response]


class Server(httpx.BaseTransport):
    """Takes one upload; `says` holds what it answers instead, by method, once for each entry."""

    def __init__(self) -> None:
        self.received = b""
        self.length = 0
        self.has_upload = False
        self.asked: list[str] = []
        self.says: dict[str, list[Said]] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.method)
        instead = self.says.get(request.method)
        if instead:
            return instead.pop(0)(request)
        return getattr(self, request.method.lower())(request)  # type: ignore[no-any-return]

    def post(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/present"):
            return httpx.Response(200, json={"present": []})
        self.length, self.has_upload = int(request.headers["upload-length"]), True
        return httpx.Response(201, headers={"Location": ADDRESS})

    def head(self, request: httpx.Request) -> httpx.Response:
        if not self.has_upload:
            return httpx.Response(404)
        at, length = str(len(self.received)), str(self.length)
        return httpx.Response(200, headers={"Upload-Offset": at, "Upload-Length": length})

    def patch(self, request: httpx.Request) -> httpx.Response:
        assert int(request.headers["upload-offset"]) == len(self.received)
        self.received += request.read()
        return httpx.Response(204, headers={"Upload-Offset": str(len(self.received))})

    def get(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=DONE)

    def delete(self, request: httpx.Request) -> httpx.Response:
        self.has_upload = False
        return httpx.Response(204)


def problem(status: int, detail: str) -> Said:
    body = {"title": "Problem", "detail": detail}
    return lambda request: httpx.Response(status, json=body)


def half_of(server: Server) -> Said:
    def take(request: httpx.Request) -> httpx.Response:
        server.received += request.read()[: server.length // 2]
        raise httpx.ReadError("cut")

    return take


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Server:
    server = Server()
    monkeypatch.setattr("cli.client.httpx.Client", partial(httpx.Client, transport=server))
    monkeypatch.setattr(uploads, "PAUSES_S", (0.0,))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("MODELYARD_URL", "http://yard")
    monkeypatch.setenv("MODELYARD_STATE", str(tmp_path))
    return server


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "image.tar"
    path.write_bytes(ARCHIVE)
    return path


def push(*arguments: str, input: bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["push", *arguments], input=input)


def notes(folder: Path) -> list[Path]:
    return [path for path in (folder / "cache").rglob("*") if path.is_file()]


def test_what_became_of_it_is_printed(server: Server, archive: Path, tmp_path: Path) -> None:
    done = push(str(archive))
    assert done.exit_code == 0, done.output
    assert "model@sha256:0" in done.stdout
    assert server.received == ARCHIVE
    assert notes(tmp_path) == []


def test_a_cut_is_gone_on_from(server: Server, archive: Path) -> None:
    server.says["PATCH"] = [half_of(server)]
    assert push(str(archive)).exit_code == 0
    assert server.received == ARCHIVE


@pytest.mark.parametrize("method", ["HEAD", "PATCH", "GET"])
@pytest.mark.parametrize(
    ("status", "code"), [(401, DENIED), (403, DENIED), (507, FAILED), (413, FAILED), (422, USAGE)]
)
def test_a_refusal_on_the_way_ends_it_with_its_reason(
    server: Server, archive: Path, method: str, status: int, code: int
) -> None:
    server.says[method] = [problem(status, "Because of this.")]
    done = push(str(archive))
    assert done.exit_code == code, done.output
    assert "Because of this." in done.stderr


def test_a_conflict_that_stays_is_told(
    server: Server, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "CONFLICT_S", -1.0)
    server.says["PATCH"] = [problem(409, "A newer delivery won.")]
    done = push(str(archive))
    assert done.exit_code == FAILED
    assert "A newer delivery won." in done.stderr


def test_a_server_that_stays_away_is_given_up(
    server: Server, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "TRIES_S", -1.0)
    server.says["PATCH"] = [problem(503, "away")]
    assert push(str(archive)).exit_code == FAILED


def test_nobody_there_at_all_is_said(server: Server, archive: Path) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    server.says["POST"] = [refuse]
    done = push(str(archive))
    assert done.exit_code == UNREACHABLE
    assert "Nothing answers at http://yard" in done.stderr


def test_an_interrupted_push_says_how_it_goes_on_and_does(
    server: Server, archive: Path, tmp_path: Path
) -> None:
    def interrupt(request: httpx.Request) -> httpx.Response:
        server.received += request.read()[: server.length // 2]
        raise KeyboardInterrupt

    server.says["PATCH"] = [interrupt]
    done = push(str(archive))
    assert done.exit_code == INTERRUPTED
    assert "The same command goes on from here." in done.stderr
    assert len(notes(tmp_path)) == 1
    server.asked.clear()
    assert push(str(archive)).exit_code == 0
    assert server.asked.count("POST") == 1  # what is there is asked for; nothing is created
    assert server.received == ARCHIVE


@pytest.mark.parametrize("change", ["longer", "shorter", "touched"])
def test_an_archive_that_changes_under_us_is_given_up(
    server: Server, archive: Path, tmp_path: Path, change: str
) -> None:
    def changing(request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.SyncByteStream)
        for number, chunk in enumerate(request.stream):
            server.received += chunk
            if number == 0:
                changed(archive, change)
        raise AssertionError("it was sent to its end")

    server.says["PATCH"] = [changing]
    done = push(str(archive))
    assert done.exit_code == FAILED, done.output
    assert "push it again" in done.stderr
    assert not server.has_upload
    assert notes(tmp_path) == []


def changed(path: Path, how: str) -> None:
    match how:
        case "longer":
            with path.open("ab") as file:
                file.write(b"more")
        case "shorter":
            os.truncate(path, 1_500_000)
        case "touched":
            os.utime(path, ns=(1, 1))


def test_a_file_that_vanishes_while_it_is_sent_is_sent_nevertheless(
    server: Server, archive: Path
) -> None:
    def remove(request: httpx.Request) -> httpx.Response:
        archive.unlink()
        return server.patch(request)

    server.says["PATCH"] = [remove]
    assert push(str(archive)).exit_code == 0
    assert server.received == ARCHIVE


def test_standard_input_is_sent_and_not_kept(server: Server, tmp_path: Path) -> None:
    assert push("-", input=ARCHIVE).exit_code == 0
    assert server.received == ARCHIVE
    assert notes(tmp_path) == []


def test_empty_standard_input_is_a_usage_error(server: Server) -> None:
    done = push("-", input=b"")
    assert done.exit_code == USAGE
    assert "Nothing came on standard input." in done.stderr
    assert server.asked == []


def test_what_is_no_archive_is_called_what_it_is(server: Server, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for given, what in {
        "": "An empty name is no file",
        str(tmp_path / "gone"): "There is no file",
        str(tmp_path): "is a folder",
        str(tmp_path / "pipe"): "is no regular file: pipe it into modelyard images push -",
        "/dev/null": "is no regular file",
    }.items():
        done = push(given)
        assert done.exit_code == USAGE
        assert what in done.stderr
    assert server.asked == []


def test_why_it_takes_long_is_heard_and_the_outcome_awaited(server: Server) -> None:
    waits = {"status": "ingesting", "technicalInformation": "registry_unavailable: It is away."}
    server.says["GET"] = [lambda request: httpx.Response(200, json=waits)]
    heard: list[str] = []
    from cli.client import Client

    view = uploads.Upload(Client(), ADDRESS, 0).outcome(heard.append)
    assert view == DONE
    assert heard == ["registry_unavailable: It is away."]


@pytest.mark.parametrize("given", ["a\nb", "n" * 256, "", "\udcff"])
def test_a_name_that_cannot_be_sent_is_refused_by_its_option(
    server: Server, archive: Path, given: str
) -> None:
    done = push(str(archive), "--name", given)
    assert done.exit_code == USAGE
    assert "--name" in done.stderr
    assert "1 to 255 printable characters" in done.stderr
    assert server.asked == []


def test_an_archive_whose_name_cannot_be_told_is_sent_nevertheless(
    server: Server, tmp_path: Path
) -> None:
    path = tmp_path / "a\nb.tar"
    path.write_bytes(ARCHIVE)
    assert push(str(path)).exit_code == 0
    assert server.received == ARCHIVE


def test_a_closed_standard_input_is_a_usage_error(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.commands.images.sys", SimpleNamespace(stdin=None))
    done = push("-")
    assert done.exit_code == USAGE
    assert "Standard input is closed" in done.stderr


def test_off_a_terminal_there_are_a_few_lines_and_no_empty_one(
    server: Server, archive: Path
) -> None:
    said = push(str(archive)).stderr.splitlines()
    assert all(said), said
    assert said[0].startswith("uploading: 0 % of ")
    assert said[-3].startswith("uploading: 100 % of ")
    assert "stored" in said[-1]
    assert len(said) <= 7


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_what_is_refused_is_at_no_moment_called_stored(
    server: Server, archive: Path, options: tuple[str, ...]
) -> None:
    refused = DONE | {"status": "failed", "image": None, "message": "It is no archive."}
    server.says["GET"] = [lambda _: httpx.Response(200, json=refused)]
    done = push(str(archive), *options)
    assert done.exit_code == FAILED
    assert "being checked" in done.stderr
    assert "Refused: It is no archive.\nNothing was stored." in done.stderr
    assert "proved" not in done.stderr
    assert bool(done.stdout) == bool(options)


def test_a_push_forgets_the_notes_of_uploads_that_the_server_forgot(
    server: Server, archive: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "cache" / "modelyard" / "uploads"
    folder.mkdir(parents=True)
    old, new = folder / "old", folder / "new"
    old.touch()
    new.touch()
    os.utime(old, (1, 1))
    assert push(str(archive)).exit_code == 0
    assert [path.name for path in folder.iterdir()] == ["new"]


def test_why_an_image_by_reference_takes_long_is_said_at_once(
    yard: Yard, command: Callable[..., Result]
) -> None:
    why = "127.0.0.1:5999 cannot be reached: it refuses the connection; trying again until 12:00:00"
    shown = {"uuid": "one", "name": "m", "status": "VALIDATING", "reason": None, "findings": []}
    states = iter([shown | {"reason": why}] * 2 + [shown | {"status": "READY"}])
    yard.says("POST /images", shown, 202)
    yard.sends(
        "GET /events", b'data: {"data": {"status": "VALIDATING"}}\n\n' * 3, "text/event-stream"
    )
    yard.replies["GET /images/one"] = lambda _: httpx.Response(200, json=next(states))
    done = command("images", "add", "127.0.0.1:5999/m:1")
    assert (done.exit_code, done.stderr.splitlines().count(why)) == (0, 1)
