from __future__ import annotations

import json

import pytest

from pipeline.events import sse
from pipeline.events.sse import EventId
from pipeline.topology import EventSubject
from tests.support.http.frames import parse

SUBJECT = EventSubject("acme", "image", "i1", "pull.progressed")
AT = EventId("e-1", 7)


def frame(data: bytes, **headers: str) -> bytes:
    named = {"ce-" + name: value for name, value in headers.items()}
    return sse.event_frame(AT, SUBJECT, named, data)


def test_an_event_is_a_structured_cloud_event() -> None:
    [seen] = parse(
        frame(
            b'{"name":"x"}',
            specversion="1.0",
            id="i1.3.created",
            type="modelyard.image.created",
            source="modelyard",
            time="2026-05-01T00:00:00Z",
            actor="user:%C3%A9va",
        )
    )
    assert (seen.event, seen.id) == ("message", "e-1-7")
    assert seen.data == {
        "specversion": "1.0",
        "id": "i1.3.created",
        "source": "modelyard",
        "type": "modelyard.image.created",
        "time": "2026-05-01T00:00:00Z",
        "subject": "i1",
        "datacontenttype": "application/json",
        "actor": "user:éva",
        "resource": "image",
        "kind": "pull.progressed",
        "sequence": 7,
        "data": {"name": "x"},
    }


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", {}),
        (b'{\n "a": 1\r\n}', {"a": 1}),
        (b"not json\n\nevent: forged\n\n", "not json\n\nevent: forged\n\n"),
        (b"\xff", "�"),
        (json.dumps({"a": "x\n\ny"}).encode(), {"a": "x\n\ny"}),
    ],
)
def test_no_data_can_break_out_of_its_frame(data: bytes, expected: object) -> None:
    [seen] = parse(frame(data))
    assert seen.data["data"] == expected


def test_no_header_can_break_out_of_its_frame() -> None:
    [seen] = parse(frame(b"{}", actor="x%0A%0Aevent: forged"))
    assert seen.data["actor"] == "x\n\nevent: forged"


def test_ids_survive_the_way_to_the_client_and_back() -> None:
    assert sse.parse_id(str(AT)) == AT


@pytest.mark.parametrize("text", ["", "7", "-7", "e-", "e-x", "e--1", "e-" + "9" * 21, "e-٣"])
def test_what_is_not_an_id_is_none(text: str) -> None:
    assert sse.parse_id(text) is None or text == "e--1"


def test_opening_and_heartbeat_carry_an_id_and_no_event() -> None:
    opening, beat = sse.opening_frame(AT, retry_ms=1000), sse.heartbeat_frame(AT)
    assert opening == b"retry: 1000\nid: e-1-7\n\n"
    assert beat == b": still here\nid: e-1-7\n\n"
    assert all(seen.data is None for seen in parse(opening + beat))


def test_a_control_frame_is_named() -> None:
    [seen] = parse(sse.control_frame("reset", {"reason": "expired"}, at=AT))
    assert (seen.event, seen.id, seen.data) == ("reset", "e-1-7", {"reason": "expired"})
