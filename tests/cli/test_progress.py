"""What is shown of one record's way, and how waiting for its end goes on."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import typer

from cli.client import Client
from cli.console import UNREACHABLE
from cli.progress import follow
from modelyard.client import calls

ONE = "3d8a5c1e-64a5-4c6a-9d4f-0d7b6e6f7a01"
PENDING = {"uuid": ONE, "status": "PENDING"}


class Server(httpx.BaseTransport):
    """Sends `events` once, and shows the record with the next of `replies`; the last one stays."""

    def __init__(self) -> None:
        self.replies: list[int | str] = []
        self.events: list[dict[str, Any]] = []
        self.is_away = False

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self.is_away:
            raise httpx.ConnectError("refused")
        if request.url.path.endswith("/events"):
            frames = "".join(f"data: {json.dumps(event)}\n\n" for event in self.events)
            self.events = []
            return httpx.Response(200, text=frames, headers={"Content-Type": "text/event-stream"})
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if reply == "away":
            raise httpx.ConnectError("refused")
        if reply == "gone for good":
            self.is_away = True
            raise httpx.ConnectError("refused")
        if isinstance(reply, int):
            return httpx.Response(reply, json={"title": "No", "detail": "it says"})
        return httpx.Response(200, json=PENDING | {"status": reply})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    real = httpx.Client
    monkeypatch.setattr(calls, "PAUSE_S", 0.001)
    monkeypatch.setattr(calls, "LONGEST_PAUSE_S", 0.002)
    monkeypatch.setattr(httpx, "Client", lambda **options: real(transport=server, **options))
    return server


def test_waiting_for_the_end_goes_on_across_a_restart_of_the_server(server: Server) -> None:
    server.replies = ["PENDING", "away", "away", 503, "READY"]
    assert follow(Client(), "images", PENDING, until={"READY"})["status"] == "READY"


def test_a_server_that_stays_away_ends_the_waiting(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.replies = ["gone for good"]
    with pytest.raises(typer.Exit) as ended:
        follow(Client(), "images", PENDING, until={"READY"})
    assert ended.value.exit_code == UNREACHABLE
    assert "Nothing answers" in capsys.readouterr().err


def test_off_a_terminal_there_is_a_line_for_each_status_and_quarter(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    pulled = [{"percentage": percentage} for percentage in (3, 10, 30, 40, 80)]
    server.events = [
        {"data": {"status": "PLACED"}},
        *({"data": {"status": "PULLING", "progress": each}} for each in pulled),
        {"data": {"status": "RUNNING"}},
    ]
    server.replies = [*["PENDING"] * 7, "RUNNING"]
    follow(Client(), "containers", PENDING, until={"RUNNING"})
    said = capsys.readouterr().err.splitlines()
    assert said == ["PLACED", "PULLING 3 %", "PULLING 30 %", "PULLING 80 %", "RUNNING"]


def test_what_takes_too_long_is_shown_as_it_is_then(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.progress.TICK_S", 0.01)
    server.replies = ["PENDING"]
    seen: list[Any] = []
    found = follow(Client(), "images", PENDING, until={"READY"}, look=seen.append, timeout_s=0.1)
    assert found["status"] == "PENDING"
    assert len(seen) > 2
    server.replies = ["PENDING", "READY"]
    assert follow(Client(), "images", PENDING, until={"READY"}, timeout_s=60)["status"] == "READY"
