"""CloudEvents in binary mode."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.message import Message

AT = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
NOW = datetime(2026, 2, 2, tzinfo=UTC)
HEADERS = {
    "ce-specversion": "1.0",
    "ce-id": "7",
    "ce-type": "modelyard.cmd.image.create",
    "ce-source": "ci",
}


def read(headers: dict[str, str] | None = None, body: bytes = b"{}") -> Message:
    return Message.from_wire(
        "yard.cmd.acme.image.create", HEADERS | (headers or {}), body, received_at=NOW
    )


def test_attributes_travel_as_headers_and_data_as_json() -> None:
    message = Message(
        id="1", subject="s", type="t", time=AT, actor="user:1", data={"id": "i", "n": 2}
    )
    assert message.headers() == {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-type": "t",
        "ce-source": "modelyard",
        "ce-time": "2026-01-02T03:04:05.678000Z",
        "ce-subject": "i",
        "ce-actor": "user:1",
        "content-type": "application/json",
        "Nats-Msg-Id": "1",
    }
    assert message.body() == b'{"id":"i","n":2}'


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner),
    max_leaves=5,
)


@given(
    id=st.text(min_size=1),
    actor=st.none() | st.text(min_size=1),
    data=st.dictionaries(st.text(), json_values),
)
def test_whatever_is_written_is_read_back(id: str, actor: str | None, data: dict[str, Any]) -> None:
    try:
        (id + (actor or "")).encode()
    except UnicodeEncodeError:
        return
    sent = Message(id=id, subject="s", type="t", time=AT, actor=actor, data=data)
    headers = sent.headers()
    assert all(0x20 < ord(letter) < 0x7F for value in headers.values() for letter in value)
    assert Message.from_wire("s", headers, sent.body(), received_at=NOW) == sent


def test_header_names_have_no_case_and_a_missing_time_is_when_it_was_stored() -> None:
    shouted = {name.upper(): value for name, value in HEADERS.items()}
    message = Message.from_wire("s", shouted, b"", received_at=NOW)
    assert (message.id, message.time, message.data) == ("7", NOW, {})


def test_a_time_keeps_its_zone() -> None:
    message = read({"ce-time": "2026-01-02T03:04:05+02:00"})
    assert message.time == datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2)))


@pytest.mark.parametrize(
    ("headers", "body", "complaint"),
    [
        ({"ce-id": ""}, b"{}", "ce-id is missing"),
        ({"ce-type": ""}, b"{}", "ce-type is missing"),
        ({"ce-source": ""}, b"{}", "ce-source is missing"),
        ({"ce-specversion": ""}, b"{}", "ce-specversion is missing"),
        ({"ce-specversion": "0.3"}, b"{}", "CloudEvents 1.0"),
        ({"content-type": "application/cloudevents+json"}, b"{}", "application/json"),
        ({"ce-time": "yesterday"}, b"{}", "RFC 3339"),
        ({"ce-time": "2026-01-02T03:04:05"}, b"{}", "time zone"),
        ({}, b"{", "not JSON"),
        ({}, b"\xff\xfe\x00", "not JSON"),
        ({}, b"[1]", "not a JSON object"),
        ({}, b"[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_wrong_is_said(headers: dict[str, str], body: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read(headers, body)
