"""Messages: CloudEvents 1.0 in binary mode, attributes in NATS headers, data as JSON.

And those that could not be handled, dead letters, with everything needed to understand why.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote, unquote

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

SPEC_VERSION = "1.0"
CONTENT_TYPE = "application/json"
ID_HEADER = "Nats-Msg-Id"
"""The broker stores one message per value of this header and dedupe window."""

# Percent-encoding of the CloudEvents HTTP and NATS bindings: printable ASCII stays, except these.
_PLAIN = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
_IS_PLAIN = re.compile(f"[{re.escape(_PLAIN)}]+")


class Message(BaseModel):
    """One command or event.

    `id` is both `ce-id` and `Nats-Msg-Id`: publishing the same message twice inside the dedupe
    window stores it once. `data` carries ids and small facts, never the state of a record.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    subject: str
    type: str
    source: str = "modelyard"
    time: AwareDatetime
    actor: str | None = None
    """The principal who caused it, for instance `user:3f…`, or `node:…`."""
    causation_id: str | None = None
    """Of the command or request from which it all follows (the extension `causationid`)."""
    origin: str | None = None
    """Address from which he asked for it by HTTP (the extension `origin`)."""
    traceparent: str | None = None
    data: dict[str, Any] = Field(default_factory=dict)

    def headers(self) -> dict[str, str]:
        """Attributes as NATS headers; optional ones only when they are set."""
        attributes = {
            "ce-specversion": SPEC_VERSION,
            "ce-id": self.id,
            "ce-type": self.type,
            "ce-source": self.source,
            "ce-time": self.time.isoformat().replace("+00:00", "Z"),
            "ce-subject": self.data.get("id"),
            "ce-actor": self.actor,
            "ce-causationid": self.causation_id,
            "ce-origin": self.origin,
            "traceparent": self.traceparent,
        }
        encoded = {name: _encode(str(value)) for name, value in attributes.items() if value}
        return encoded | {"content-type": CONTENT_TYPE, ID_HEADER: encoded["ce-id"]}

    def body(self) -> bytes:
        return json.dumps(self.data, separators=(",", ":")).encode()

    @classmethod
    def from_wire(
        cls, subject: str, headers: Mapping[str, str], body: bytes, *, received_at: datetime
    ) -> Message:
        """Read a message that anybody may have published.

        `received_at` stands in for a missing `ce-time`. Raises ValueError with a sentence that
        says what is wrong; header names are matched without regard to case.
        """
        named = {name.lower(): _decode(value) for name, value in headers.items()}
        _require_binary_mode(named)
        return cls(
            id=_required(named, "ce-id"),
            subject=subject,
            type=_required(named, "ce-type"),
            source=_required(named, "ce-source"),
            time=_time(named.get("ce-time"), received_at),
            actor=named.get("ce-actor"),
            causation_id=named.get("ce-causationid"),
            origin=named.get("ce-origin"),
            traceparent=named.get("traceparent"),
            data=_data(body),
        )


def _require_binary_mode(headers: Mapping[str, str]) -> None:
    version = _required(headers, "ce-specversion")
    if version != SPEC_VERSION:
        raise ValueError(f"ce-specversion {version!r} is not supported: send CloudEvents 1.0.")
    kind = headers.get("content-type", CONTENT_TYPE).split(";")[0].strip().lower()
    if kind != CONTENT_TYPE:
        raise ValueError(f"content-type {kind!r} is not supported: send {CONTENT_TYPE}.")


def _required(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name)
    if not value:
        raise ValueError(f"The header {name} is missing: send a CloudEvent in binary mode.")
    return value


def _time(text: str | None, received_at: datetime) -> datetime:
    if text is None:
        return received_at
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"ce-time {text!r} is not a time of RFC 3339.") from None
    if time.tzinfo is None:
        raise ValueError(f"ce-time {text!r} names no time zone.")
    return time


def _data(body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    try:
        data = json.loads(body)
    except ValueError:
        raise ValueError("The body is not JSON.") from None
    except RecursionError:
        raise ValueError("The body is nested too deeply.") from None
    if not isinstance(data, dict):
        raise ValueError("The body is not a JSON object.")
    return data


def _encode(value: str) -> str:
    # Nearly all are plain, and `quote` goes through a value byte by byte.
    return value if _IS_PLAIN.fullmatch(value) else quote(value, safe=_PLAIN)


def _decode(value: str) -> str:
    return unquote(value)


class EventData(BaseModel):
    """What every event of a record tells; some kinds add facts of their own."""

    model_config = ConfigDict(extra="allow")

    id: str
    """uuid of the record."""
    org: str
    revision: int
    """Of the record after what happened: later events of a record have higher ones."""
    name: str | None = None
    status: str | None = None
    reason: str | None = None


class Rejection(BaseModel):
    """A command that was given up: nothing, or nothing more, comes of it."""

    id: str
    """What it was about: the uuid of a record, or else the id of the command."""
    org: str
    command: str
    """`ce-id` of the command."""
    verb: str
    code: str
    reason: str
    """One sentence that says what to do."""
    attempts: int


class TimelineEvent(BaseModel):
    """One event of a record, and how long after others it happened."""

    id: str | None
    """`ce-id`."""
    sequence: int
    kind: str
    time: AwareDatetime
    actor: str | None = None
    causation_id: str | None = None
    """`X-Request-Id` of the request, or id of the command, from which it follows."""
    elapsed_s: float
    """Since the first event that is kept."""
    since_previous_s: float
    """Since the event before; 0 for the first."""
    data: Any
    """What the event told (`EventData`)."""


class Timeline(BaseModel):
    """What happened to a record, the oldest event first."""

    resource: str
    id: str
    complete: bool
    """False when older events are kept no more."""
    events: list[TimelineEvent]
    resume: str
    """An event id: whoever follows the events after it misses none."""
    next: str | None = None
    """Cursor of the events that follow; null on the last page."""


class Attempt(BaseModel):
    """One failed attempt at a message."""

    number: int
    """From 1; a number that is missing was never reported, because its worker died."""
    at: AwareDatetime
    code: str
    reason: str
    worker: str


class DeadLetterHeader(BaseModel):
    """What is written beside a dead message, in one header."""

    org: str | None
    """None: of no organisation that can be told; shown to the installation's own."""
    stage: str
    """Durable consumer on which it died."""
    stream: str
    sequence: int
    message_id: str | None = None
    code: str
    reason: str
    attempts: int
    history: list[Attempt] = Field(default_factory=list)
    time: AwareDatetime
    """When it was given up."""
    truncated: bool = False
    """The payload was too large to be kept whole; such a letter cannot be requeued."""
    sealed: bool = False
    """Its text is kept encrypted."""


class DeadLetter(DeadLetterHeader):
    """A dead message as it is shown."""

    id: str
    subject: str
    """Where it was published."""
    type: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    """Values of headers that are no attributes of the event are hidden."""
    data: Any = None
    """The payload when it is JSON: values that its schema conceals are masked, of what no schema
    knows there are keys and types. Lists leave payloads out."""
    data_base64: str | None = None
    """The payload when it is not JSON, in the whole text only."""
    size_bytes: int | None = None
    """Of the payload; None in lists, and when no configured encryption key opens it."""
    masked: bool = True
    """False in the whole text."""
