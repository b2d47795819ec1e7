"""Events as Server-Sent Events: how they look on the wire, and the ids by which readers resume.

Every event is a CloudEvent in structured JSON, sent without a name so that `onmessage` sees them
all. Named frames are about the stream itself: `reset` and `bye`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

from pipeline.topology import EventSubject
from schemas.message import SPEC_VERSION


class EventId(NamedTuple):
    """A place in the stream of events. Sequences of different epochs cannot be compared."""

    epoch: str
    sequence: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.sequence}"


def parse_id(text: str) -> EventId | None:
    """None when it is not an id that we could have sent."""
    epoch, _, sequence = text.rpartition("-")
    if not epoch or not sequence.isascii() or not sequence.isdigit() or len(sequence) > 20:
        return None
    return EventId(epoch, int(sequence))


def event_frame(
    at: EventId, subject: EventSubject, headers: Mapping[str, str], data: bytes
) -> bytes:
    """One event. Headers that are missing are left out: a frame is never refused."""
    ours = {name.lower(): unquote(value) for name, value in headers.items()}
    attributes = {
        "specversion": ours.get("ce-specversion", SPEC_VERSION),
        "id": ours.get("ce-id"),
        "source": ours.get("ce-source"),
        "type": ours.get("ce-type"),
        "time": ours.get("ce-time"),
        "subject": subject.id,
        "datacontenttype": "application/json",
        "actor": ours.get("ce-actor"),
        "causationid": ours.get("ce-causationid"),
        "traceparent": ours.get("traceparent"),
        "resource": subject.resource,
        "kind": subject.kind,
        "sequence": at.sequence,
    }
    head = _json({name: value for name, value in attributes.items() if value is not None})
    return b'id: %b\ndata: %b,"data":%b}\n\n' % (str(at).encode(), head[:-1], _inline(data))


def control_frame(name: str, facts: Mapping[str, Any], *, at: EventId | None = None) -> bytes:
    """A frame about the stream itself; `at` is where its reader resumes afterwards."""
    return _frame([f"event: {name}", *_id(at), "data: " + _json(facts).decode()])


def opening_frame(at: EventId, *, retry_ms: int) -> bytes:
    """How long to wait before reconnecting, and an id to resume by even if nothing happens."""
    return _frame([f"retry: {retry_ms}", *_id(at)])


def heartbeat_frame(at: EventId) -> bytes:
    """A comment, and how far its reader has come: quiet readers do not fall out of retention."""
    return _frame([": still here", *_id(at)])


def _frame(lines: Iterable[str]) -> bytes:
    return "\n".join([*lines, "", ""]).encode()


def _id(at: EventId | None) -> list[str]:
    return [] if at is None else [f"id: {at}"]


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _inline(data: bytes) -> bytes:
    """The data as it came when that is JSON on one line; a line end would end the frame."""
    try:
        value = json.loads(data or b"{}")
    except ValueError:
        return _json(data.decode(errors="replace"))
    return _json(value) if not data or b"\n" in data or b"\r" in data else data
