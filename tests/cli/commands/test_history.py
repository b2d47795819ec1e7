"""Timelines on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from typer.testing import Result

from api.yard.history import KINDS
from cli.commands.history import COLLECTIONS
from cli.console import USAGE
from tests.support.http.said_yard import Yard

Run = Callable[..., Result]

ID = "0a8f8a4e-93f1-4c5f-8a64-0e5a1cf1f7a0"


def happened(sequence: int, kind: str, time: str, **data: Any) -> dict[str, Any]:
    """As the timeline and the stream of events both tell it."""
    return {"id": f"e{sequence}", "sequence": sequence, "kind": kind, "time": time, "data": data}


def placed(event: dict[str, Any], elapsed_s: float, since_s: float) -> dict[str, Any]:
    return {**event, "elapsed_s": elapsed_s, "since_previous_s": since_s}


CREATED = happened(1, "created", "2026-05-01T12:00:00Z", status="PENDING") | {"actor": "user:ada"}
READY = happened(2, "ready", "2026-05-01T12:02:03Z", status="READY")
SERVED = happened(3, "served", "2026-05-01T14:02:03.250Z", status="READY", reason="asked")
TIMELINE = {
    "resource": "image",
    "id": ID,
    "complete": True,
    "events": [placed(CREATED, 0, 0), placed(READY, 123, 123)],
    "resume": "e-2",
    "next": None,
}


def stream(*events: dict[str, Any]) -> bytes:
    frames = (f"id: e-{each['sequence']}\ndata: {json.dumps(each)}\n\n" for each in events)
    return "".join(["retry: 1000\nid: e-2\n\n", *frames]).encode()


def test_a_timeline_tells_when_how_long_and_who(yard: Yard, command: Run) -> None:
    yard.says("GET /images/find", {"uuid": ID})
    yard.says(f"GET /images/{ID}/timeline", TIMELINE)
    done = command("timeline", "image", "classifier")
    assert done.exit_code == 0
    first, second = done.stdout.splitlines()
    assert "0.00 s" in first
    assert first.endswith("created PENDING (user:ada)")
    assert "2m 03s   +2m 03s ready READY" in second


def test_what_is_kept_no_more_is_said(yard: Yard, command: Run) -> None:
    yard.says(f"GET /builds/{ID}/timeline", {**TIMELINE, "complete": False})
    done = command("timeline", "builds", ID)
    assert "kept no more" in done.stderr


def test_pages_are_joined_in_json(yard: Yard, command: Run) -> None:
    pages = [
        {**TIMELINE, "events": [placed(CREATED, 0, 0)], "next": "1-0-0-1", "resume": "e-1"},
        {**TIMELINE, "events": [placed(READY, 123, 123)]},
    ]
    yard.replies[f"GET /images/{ID}/timeline"] = lambda _: httpx.Response(200, json=pages.pop(0))
    told = json.loads(command("timeline", "images", ID, "--json").stdout)
    assert [each["kind"] for each in told["events"]] == ["created", "ready"]
    assert told["resume"] == "e-2"
    assert "cursor=1-0-0-1" in yard.asked[-1]


def test_a_watch_goes_on_where_the_timeline_ends(yard: Yard, command: Run) -> None:
    yard.says(f"GET /images/{ID}/timeline", TIMELINE)
    yard.sends("GET /events", stream(SERVED), "text/event-stream")
    done = command("watch", "images", ID, "--until", "served")
    assert done.exit_code == 0
    *_, last = done.stdout.splitlines()
    assert "2h 02m" in last
    assert "+2h 00m served READY asked" in last
    assert yard.requests[-1].headers["last-event-id"] == "e-2"
    assert f"id={ID}" in yard.asked[-1]


def test_a_watch_for_what_has_happened_ends_at_once(yard: Yard, command: Run) -> None:
    yard.says(f"GET /images/{ID}/timeline", TIMELINE)
    done = command("watch", "images", ID, "--until", "READY", "--json")
    assert [json.loads(line)["kind"] for line in done.stdout.splitlines()] == ["created", "ready"]
    assert yard.asked == [f"GET /images/{ID}/timeline"]


@pytest.mark.parametrize("resource", ["gadgets", ""])
def test_an_unknown_resource_is_refused_with_those_there_are(command: Run, resource: str) -> None:
    done = command("timeline", resource, ID)
    assert done.exit_code == USAGE
    assert "known are builds" in " ".join(done.stderr.split())


def test_the_known_resources_are_those_of_the_server() -> None:
    assert set(COLLECTIONS) == set(KINDS)
