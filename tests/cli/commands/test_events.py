"""What the command line does when the server goes away and comes back, and when it refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from pkgutil import walk_packages

import httpx
import pytest
import typer

import schemas
from cli.client import Client
from cli.commands.events import RESOURCES
from cli.console import DENIED, FAILED, MISSING, UNREACHABLE, USAGE
from cli.main import app
from modelyard.client import calls
from pipeline import topology
from schemas.base import Record
from tests.support.command_line import CliRunner

Reply = Callable[[httpx.Request], httpx.Response]

STREAM = {"content-type": "text/event-stream"}
CONTAINER = "3d8a5c1e-64a5-4c6a-9d4f-0d7b6e6f7a01"


class Cut(httpx.SyncByteStream):
    """Begins to answer, and then the connection breaks."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __iter__(self) -> Iterator[bytes]:
        yield self.text.encode()
        raise httpx.RemoteProtocolError("cut off")


class Script(httpx.BaseTransport):
    """Answers each request with the next reply; the last one stays."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.resumed: list[str | None] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.resumed.append(request.headers.get("last-event-id"))
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        return reply(request)


def event(number: int) -> str:
    return f"id: {number}\nevent: event\ndata: {{}}\n\n"


def ends(text: str) -> Reply:
    return lambda _: httpx.Response(200, headers=STREAM, text=text)


def breaks(text: str) -> Reply:
    return lambda _: httpx.Response(200, headers=STREAM, stream=Cut(text))


def refuses(status: int) -> Reply:
    return lambda _: httpx.Response(status, json={"title": "No", "detail": "it says"})


def nobody(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Script:
    script = Script()
    real = httpx.Client
    monkeypatch.setattr(calls, "PAUSE_S", 0.001)
    monkeypatch.setattr(calls, "LONGEST_PAUSE_S", 0.002)
    monkeypatch.setattr(httpx, "Client", lambda **options: real(transport=script, **options))
    return script


def test_events_go_on_where_a_server_that_restarts_left_off(server: Script) -> None:
    server.replies = [ends(event(1)), nobody, refuses(503), breaks(event(2)), ends(event(3))]
    events = Client().events()
    seen = [next(events) for _ in range(6)]
    assert [each.id for each in seen if each.event != "open"] == ["1", "2", "3"]
    assert server.resumed == [None, "1", "1", "1", "2"]


def test_a_server_that_does_not_come_back_is_given_up(
    server: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    server.replies = [ends(event(1)), nobody]
    events = Client().events()
    with pytest.raises(typer.Exit) as ended:
        list(events)
    assert ended.value.exit_code == UNREACHABLE
    assert len(server.resumed) == 1 + calls.RECONNECTIONS
    assert "Nothing answers" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (nobody, UNREACHABLE),
        (breaks('{"items": ['), UNREACHABLE),
        (refuses(401), DENIED),
        (refuses(403), DENIED),
        (refuses(404), MISSING),
        (refuses(422), USAGE),
        (refuses(503), FAILED),
        (refuses(500), FAILED),
    ],
)
@pytest.mark.parametrize("command", [["nodes", "list"], ["events"]])
def test_the_exit_code_says_what_kind_of_failure_it_was(
    server: Script, reply: Reply, code: int, command: list[str]
) -> None:
    broken_at_once = [reply] if command != ["events"] else [reply, nobody]
    server.replies = broken_at_once
    done = CliRunner().invoke(app, command)
    assert done.exit_code == code
    assert "Traceback" not in done.output


def test_a_deletion_that_is_not_done_is_not_called_done(server: Script) -> None:
    server.replies = [lambda _: httpx.Response(202, json={"status": "RUNNING"})]
    done = CliRunner().invoke(app, ["containers", "delete", CONTAINER])
    assert done.exit_code == FAILED
    server.replies = [lambda _: httpx.Response(200, json={"status": "DELETED"})]
    assert CliRunner().invoke(app, ["containers", "delete", CONTAINER]).exit_code == 0


def test_a_shell_completes_commands() -> None:
    asked = {
        "_MODELYARD_COMPLETE": "complete_bash",
        "COMP_WORDS": "modelyard conta",
        "COMP_CWORD": "1",
    }
    done = CliRunner().invoke(app, env=asked, prog_name="modelyard")
    assert done.output.split() == ["containers"]


@pytest.mark.parametrize("given", ["bogus", "", "Image", "[/x]"])
def test_an_unknown_resource_is_refused_with_the_known_ones(given: str) -> None:
    done = CliRunner().invoke(app, ["events", "--resource", given], env={"COLUMNS": "300"})
    assert done.exit_code == USAGE
    assert "container, dead-letter, deployment, image" in done.stderr


def test_the_known_resources_are_those_of_the_records() -> None:
    for module in walk_packages(schemas.__path__, "schemas."):
        import_module(module.name)
    assert set(RESOURCES) == {*_resources(Record), topology.DEAD_LETTER}


def _resources(kind: type[Record]) -> Iterator[str]:
    for below in kind.__subclasses__():
        if below.__module__.startswith("schemas."):
            if hasattr(below, "resource"):
                yield below.resource
            yield from _resources(below)
