"""What `modelyard containers` takes, sends and tells."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import Result

from cli import call_content
from cli.client import FAILED, UNREACHABLE, USAGE
from tests.support import records as made
from tests.support.said_yard import Yard

Command = Callable[..., Result]

ID = "3d8a5c1e-64a5-4c6a-9d4f-0d7b6e6f7a01"
RUN = f"POST /containers/{ID}/run"
LOGS = f"GET /containers/{ID}/logs"


def a_container(**values: Any) -> dict[str, Any]:
    return dict(made.container(uuid=ID, **values).model_dump(mode="json"))


@pytest.mark.parametrize(
    "wrong", ["80x", "a:80", "[/udp]", "²", "9" * 5000, "65536", "99999:80", "0", "80:0", "-1"]
)
def test_a_wrong_port_is_explained(yard: Yard, command: Command, wrong: str) -> None:
    done = command("containers", "run", "image", f"--port={wrong}")
    assert (done.exit_code, yard.asked) == (USAGE, [])
    assert f"{wrong!r} is not [HOST:]CONTAINER[/udp]." in done.stderr


@pytest.mark.parametrize(
    "option",
    [
        "--cpus=inf",
        "--cpus=nan",
        "--cpus=-1",
        "--memory-mib=99999999999999",
        "--gpus=1025",
    ],
)
def test_an_amount_that_is_none_is_refused_by_the_name_of_its_option(
    yard: Yard, command: Command, option: str
) -> None:
    done = command("containers", "run", "image", option)
    assert (done.exit_code, yard.asked) == (USAGE, [])
    assert option.partition("=")[0] in done.stderr


def test_one_container_is_one_object(yard: Yard, command: Command) -> None:
    container = a_container(status="RUNNING")
    yard.says("POST /containers", container)
    done = command("containers", "run", "image", "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (0, container)


def test_a_launch_that_no_node_takes_says_why_node_by_node(yard: Yard, command: Command) -> None:
    refusals = {"b": ["99 GPUs needed, the node has 0"], "a": ["drained", "[/x]"]}
    yard.says("POST /containers", a_container(status="FAILED", refusals=refusals))
    done = command("containers", "run", "image", "--gpus", "99")
    assert done.exit_code == FAILED
    last = done.stdout.splitlines()[-2:]
    assert last == ["  a: drained; [/x]", "  b: 99 GPUs needed, the node has 0"]


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        ("STOPPED", 0, "stopped\n"),
        ("DELETED", 0, "deleted\n"),
        ("FAILED", FAILED, "It is FAILED: it does not run, but it was not stopped. Reason: why\n"),
        ("LOST", FAILED, "It is LOST: its node is away and stops it when it comes back."),
    ],
)
def test_only_what_is_stopped_is_called_stopped(
    yard: Yard, command: Command, status: str, code: int, told: str
) -> None:
    yard.says(f"POST /containers/{ID}/stop", a_container(status=status, reason="why"))
    done = command("containers", "stop", ID)
    assert done.exit_code == code
    assert told in done.stderr


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("2026-11-21T11:00:00Z", "2026-11-21T11:00:00+00:00"),
        ("2026-11-21T11:00:00+00:00", "2026-11-21T11:00:00+00:00"),
        ("2026-11-21T11:00:00.5+02:00", "2026-11-21T11:00:00.500000+02:00"),
        ("2026-11-21T11:00:00", "2026-11-21T11:00:00+00:00"),
        ("2026-11-21", "2026-11-21T00:00:00+00:00"),
    ],
)
def test_a_time_without_a_zone_is_utc(yard: Yard, command: Command, given: str, sent: str) -> None:
    yard.sends(LOGS, b"", "application/x-ndjson")
    assert command("containers", "logs", ID, "--since", given).exit_code == 0
    assert yard.requests[0].url.params["since"] == sent


def test_a_time_that_is_none_is_refused(yard: Yard, command: Command) -> None:
    done = command("containers", "logs", ID, "--since", "yesterday")
    assert (done.exit_code, yard.asked) == (USAGE, [])


def test_logs_are_what_the_container_wrote_to_the_letter(yard: Yard, command: Command) -> None:
    wrote = ["a\tb\r\n", "[red]x[/] :smile:\n", "one\u2028line\x85\n", "w" * 300, "\n", "cut"]
    entries = [{"stream": "stdout", "text": text} for text in wrote]
    entries.append({"stream": "stderr", "text": "wrong\t!"})
    # An empty line says that the connection lives.
    body = "\n\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries)
    yard.sends(LOGS, body.encode(), "application/x-ndjson; charset=utf-8")
    done = command("containers", "logs", ID)
    assert done.exit_code == 0
    assert done.stdout_bytes == "".join(wrote).encode()
    assert done.stderr_bytes == b"wrong\t!"


@pytest.mark.parametrize("size", [0, 7, 8])
def test_standard_input_that_ends_soon_is_sent_with_its_length(
    yard: Yard, command: Command, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(call_content, "MEASURED_BYTES", 8)
    assert command("containers", "call", ID, "--data", "-", given=b"x" * size).exit_code == 0
    assert yard.requests[0].headers["content-length"] == str(size)
    assert "transfer-encoding" not in yard.requests[0].headers


def test_standard_input_that_goes_on_is_sent_as_it_comes(
    yard: Yard, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_content, "MEASURED_BYTES", 8)
    body = bytes(range(200))
    assert command("containers", "call", ID, "--data", "-", given=body).exit_code == 0
    assert yard.requests[0].headers["transfer-encoding"] == "chunked"
    assert yard.bodies == [body]


def test_a_file_is_sent_with_its_length_however_long(
    yard: Yard, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(call_content, "MEASURED_BYTES", 8)
    (tmp_path / "body").write_bytes(b"x" * 200)
    assert command("containers", "call", ID, "--data", f"@{tmp_path}/body").exit_code == 0
    assert yard.requests[0].headers["content-length"] == "200"


@pytest.mark.parametrize("data", ["@/no/such/file", "@a\0b", "@/tmp", "\udcff"])
def test_what_cannot_be_sent_is_explained(yard: Yard, command: Command, data: str) -> None:
    done = command("containers", "call", ID, "--data", data)
    assert (done.exit_code, yard.asked) == (USAGE, [])
    assert "cannot be read" in done.stderr or "no UTF-8 text" in done.stderr


def test_a_media_type_that_no_header_can_hold_is_explained(yard: Yard, command: Command) -> None:
    done = command("containers", "call", ID, "--content-type", "ü")
    assert (done.exit_code, yard.asked) == (USAGE, [])
    assert "it may hold ASCII characters only" in done.stderr


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


class Cut(httpx.SyncByteStream):
    def __iter__(self) -> Iterator[bytes]:
        yield b"half"
        raise httpx.RemoteProtocolError("cut off")


ANSWERS = [
    (httpx.Response(500, content=b"no"), FAILED, b"no\n"),
    (httpx.Response(500, content=b"no\n"), FAILED, b"no\n"),
    (httpx.Response(500, content=b""), FAILED, b""),
    (httpx.Response(200, content=b"yes"), 0, b"yes"),
    (httpx.Response(200, stream=Cut()), UNREACHABLE, b"half\n"),
]


@pytest.mark.parametrize(("answer", "code", "seen"), ANSWERS)
def test_what_is_said_about_a_failure_gets_its_own_line_on_a_terminal(
    yard: Yard,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    answer: httpx.Response,
    code: int,
    seen: bytes,
) -> None:
    yard.replies[RUN] = lambda _: answer
    held = io.BytesIO()
    terminal = Terminal(held)
    monkeypatch.setattr("cli.containers.sys", type("sys", (), {"stdout": terminal}))
    assert command("containers", "call", ID).exit_code == code
    assert held.getvalue() == seen
