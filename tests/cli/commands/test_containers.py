"""What `modelyard containers` takes, sends and tells."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console
from typer.testing import Result

from cli import content
from cli.commands import containers
from cli.console import FAILED, UNREACHABLE, USAGE, show_in
from tests.support import records as made
from tests.support.http.said_yard import Yard

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
    ["--cpus=inf", "--cpus=nan", "--cpus=-1", "--memory-mib=99999999999999", "--gpus=1025"],
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
    ("made", "code", "told"),
    [
        ({"status": "RUNNING"}, 0, ""),
        ({"status": "RUNNING", "replaces": ID}, FAILED, "it has not taken its place yet."),
        (
            {"status": "DELETED", "reason": "why", "replaces": ID},
            FAILED,
            "The old one stays as it was: why",
        ),
    ],
)
def test_a_replacement_is_told_by_what_became_of_it(
    yard: Yard, command: Command, made: dict[str, Any], code: int, told: str
) -> None:
    yard.says(f"POST /containers/{ID}/replace", a_container(**made))
    done = command("containers", "replace", ID, "image", "--gpus", "1", "--", "serve", "-v")
    assert (done.exit_code, told in done.stderr) == (code, True)
    (asked,) = yard.requests
    assert asked.url.params["wait"] == "300"
    sent = json.loads(asked.content)
    assert (sent["image"], sent["gpus"], sent["command"]) == ("image", 1, ["serve", "-v"])


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


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ({"exit_code": 0, "timed_out": False}, 0),
        ({"exit_code": 42, "timed_out": False}, 42),
        ({"exit_code": 137, "timed_out": True}, FAILED),
        (None, FAILED),
    ],
)
def test_a_command_ends_as_it_ended_in_the_container(
    yard: Yard, command: Command, end: dict[str, Any] | None, code: int
) -> None:
    entries = [{"stream": "stdout", "text": "out"}, {"stream": "stderr", "text": "err\n"}]
    entries += [end] if end else []
    body = "\n".join(map(json.dumps, entries)).encode()
    yard.sends(f"POST /containers/{ID}/exec", body, "application/x-ndjson")
    done = command("containers", "exec", ID, "--timeout", "9", "--", "ls", "-l")
    assert (done.exit_code, done.stdout) == (code, "out")
    assert done.stderr.startswith("err\n")
    assert json.loads(yard.bodies[0]) == {"command": ["ls", "-l"], "timeout_s": 9, "env": {}}


@pytest.mark.parametrize("size", [0, 7, 8])
def test_standard_input_that_ends_soon_is_sent_with_its_length(
    yard: Yard, command: Command, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(content, "MEASURED_BYTES", 8)
    assert command("containers", "call", ID, "--data", "-", given=b"x" * size).exit_code == 0
    assert yard.requests[0].headers["content-length"] == str(size)
    assert "transfer-encoding" not in yard.requests[0].headers


def test_standard_input_that_goes_on_is_sent_as_it_comes(
    yard: Yard, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "MEASURED_BYTES", 8)
    body = bytes(range(200))
    assert command("containers", "call", ID, "--data", "-", given=body).exit_code == 0
    assert yard.requests[0].headers["transfer-encoding"] == "chunked"
    assert yard.bodies == [body]


def test_a_file_is_sent_with_its_length_however_long(
    yard: Yard, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(content, "MEASURED_BYTES", 8)
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
    monkeypatch.setattr("cli.commands.containers.sys", type("sys", (), {"stdout": terminal}))
    assert command("containers", "call", ID).exit_code == code
    assert held.getvalue() == seen


@pytest.mark.parametrize("verb", ["run", "start", "restart"])
def test_a_launch_that_waits_says_why_and_for_how_long_it_was_waited(
    yard: Yard, command: Command, verb: str
) -> None:
    refusals = {"one": ["2 GPUs needed, 0 free"]}
    waiting = a_container(status="REQUESTED", refusals=refusals, queue_position=3, name="m")
    for asked in ("POST /containers", f"POST /containers/{ID}/{verb}"):
        yard.says(asked, a_container(status="REQUESTED", name="m"))
    yard.says(f"GET /containers/{ID}", waiting)
    event = {"data": {"status": "REQUESTED"}}
    yard.sends("GET /events", f"data: {json.dumps(event)}\n\n".encode(), "text/event-stream")
    done = command("containers", verb, ID, "--timeout", "0.3")
    assert done.exit_code == FAILED
    assert "place 3 in the queue; one: 2 GPUs needed, 0 free" in done.stderr
    assert done.stderr.count("place 3") == 1
    assert "still REQUESTED" in done.stderr
    assert "modelyard containers delete m" in done.stderr


SET_UP = {
    "--shm-size=8g": {"shm_size_bytes": 8 * 2**30},
    "--ulimit=memlock=-1": {"ulimits": {"memlock": {"soft": -1, "hard": -1}}},
    "--ulimit=nofile=1:2": {"ulimits": {"nofile": {"soft": 1, "hard": 2}}},
    "--ipc=shareable": {"ipc": "shareable"},
    "--ipc=container:other": {"ipc_with": "other"},
    "--entrypoint=/bin/serve": {"entrypoint": ["/bin/serve"]},
    "--workdir=/work": {"working_dir": "/work"},
    "--user=1000:1000": {"user": "1000:1000"},
    "--asset=W=http://a/b?c=d#sha256=ab": {
        "assets": [{"env_key": "W", "url": "http://a/b?c=d", "sha256": "ab"}]
    },
    "--asset=W=http://a/b": {"assets": [{"env_key": "W", "url": "http://a/b"}]},
    "--volume=/data": {"volumes": [{"path": "/data", "read_only": False}]},
    "-v/data:ro": {"volumes": [{"path": "/data", "read_only": True}]},
    "--tmpfs=/work:512m": {"tmpfs": {"/work": 512 * 2**20}},
    "--read-only": {"read_only": True},
    "--add-host=six:::1": {"extra_hosts": {"six": "::1"}},
    "--stop-signal=SIGINT": {"stop_signal": "SIGINT"},
    "--stop-grace=0": {"stop_grace_s": 0},
}


@pytest.mark.parametrize("option", SET_UP)
def test_how_a_container_is_set_up_is_sent(yard: Yard, command: Command, option: str) -> None:
    yard.says("POST /containers", a_container(status="RUNNING"))
    assert command("containers", "run", "image", option).exit_code == 0
    spec = json.loads(yard.bodies[-1])
    assert {name: spec[name] for name in SET_UP[option]} == SET_UP[option]
    sent = spec.keys() - {"image", "command", "env", "ports", "resources", "restart"}
    assert sent == SET_UP[option].keys()


@pytest.mark.parametrize(
    "wrong",
    [
        *(
            "--shm-size=lots",
            "--ulimit=memlock",
            "--ipc=host",
            "--tmpfs=/work",
            "--volume=/host:/data",
            "--add-host=six",
        ),
        *("--privileged", "--volume=/:/host", "--network=host", "--pid=host", "--stop-grace=-1"),
    ],
)
def test_a_set_up_that_cannot_be_is_not_sent(yard: Yard, command: Command, wrong: str) -> None:
    done = command("containers", "run", wrong, "image")
    assert (done.exit_code, yard.asked) == (USAGE, [])


# --- start, restart, several, lists -----------------------------------------------------------


@pytest.mark.parametrize("verb", ["start", "restart"])
def test_a_start_waits_and_says_what_became_of_it(yard: Yard, command: Command, verb: str) -> None:
    asked = f"POST /containers/{ID}/{verb}"
    yard.says(asked, a_container(status="RUNNING"))
    done = command("containers", verb, ID)
    assert (done.exit_code, done.stderr) == (0, "running\n")
    yard.says(asked, a_container(status="FAILED", reason="no node"))
    done = command("containers", verb, ID)
    assert (done.exit_code, "It is FAILED: it does not run. Reason: no node" in done.stderr) == (
        FAILED,
        True,
    )
    yard.says(asked, a_container(status="RUNNING", restart_at=made.AT))
    yard.says(f"GET /containers/{ID}", a_container(status="RUNNING", restart_at=made.AT))
    done = command("containers", verb, ID, "--timeout=0.1")
    assert (done.exit_code, "still RUNNING and goes on" in done.stderr) == (FAILED, True)
    yard.says(f"GET /containers/{ID}", a_container(status="RUNNING"))
    done = command("containers", verb, ID, "--timeout=9")
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (0, "running")


@pytest.mark.parametrize(
    ("noun", "verb", "path"),
    [
        ("containers", "delete", "containers"),
        ("deployments", "delete", "deployments"),
        ("nodes", "delete", "nodes"),
        ("orgs", "delete", "organisations"),
        ("volumes", "delete", "volumes"),
        ("images", "delete", "images"),
        ("secrets", "delete", "secrets"),
        ("token", "revoke", "tokens"),
        ("dead-letters", "drop", "dead-letters"),
    ],
)
def test_several_go_in_one_command(
    yard: Yard, command: Command, noun: str, verb: str, path: str
) -> None:
    ids = [f"3d8a5c1e-64a5-4c6a-9d4f-0d7b6e6f7a0{number}" for number in (1, 2, 3)]
    for id in (ids[0], ids[2]):
        yard.says(f"DELETE /{path}/{id}", {"status": "DELETED"})
    yard.says(f"DELETE /{path}/{ids[1]}", {"title": "Conflict", "detail": "in use"}, 409)
    done = command(noun, verb, *ids)
    assert done.exit_code == FAILED
    assert [asked.partition("?")[0] for asked in yard.asked] == [
        f"DELETE /{path}/{id}" for id in ids
    ]
    said = done.stderr.splitlines()
    assert [line.partition(": ")[0] for line in said] == [ids[0], "Conflict", ids[1], ids[2]]


def listed(width: int, *items: dict[str, Any]) -> list[str]:
    terminal = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    show_in(terminal, items, containers.COLUMNS)
    assert isinstance(terminal.file, io.StringIO)
    return terminal.file.getvalue().splitlines()


def test_a_list_with_image_and_node_fits_a_hundred_columns() -> None:
    ports = [{"internal": 8080, "host": 32768, "protocol": "tcp", "address": "127.0.0.1"}]
    known = {"image_name": "classifier", "node": ID, "node_name": "gpu-node-1"}
    up = a_container(name="classifier-1", status="RUNNING", ports=ports, gpus=["a"], **known)
    up["spec"]["gpus"] = 1
    over = a_container(name="classifier-2", status="FAILED", reason="exited with code 1", **known)
    over["spec"]["gpus"] = 2
    heads, *lines = listed(100, up, over)
    assert heads.split() == [
        "ID",
        "NAME",
        "IMAGE",
        "NODE",
        *["STATUS", "PORTS", "GPUS", "AGE", "REASON"],
    ]
    text = "\n".join(lines)
    assert all(len(line) <= 100 for line in lines)
    for word in (ID[:8], "classifier-1", "gpu-node-1", "0 of 2", "RUNNING", "FAILED"):
        assert word in text
    assert ID not in text
