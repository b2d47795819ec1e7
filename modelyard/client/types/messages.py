"""Types of what is asked and answered: messages.

Made of the OpenAPI document by `make docs`.
"""

from __future__ import annotations

from typing import Any, TypedDict


class AuditEntryView(TypedDict):
    """One thing that somebody did."""

    id: str
    time: str
    actor: str
    origin: str
    action: str
    target: str
    name: str | None
    request: str | None
    event: str


class DeadLetter(TypedDict):
    """A dead message as it is shown."""

    org: str | None
    stage: str
    stream: str
    sequence: int
    message_id: str | None
    code: str
    reason: str
    attempts: int
    history: list[MessageAttempt]
    time: str
    truncated: bool
    sealed: bool
    id: str
    subject: str
    type: str | None
    headers: dict[str, str]
    data: Any
    data_base64: str | None
    size_bytes: int | None
    masked: bool


class MessageAttempt(TypedDict):
    """One failed attempt at a message."""

    number: int
    at: str
    code: str
    reason: str
    worker: str


class Timeline(TypedDict):
    """What happened to a record, the oldest event first."""

    resource: str
    id: str
    complete: bool
    events: list[TimelineEvent]
    resume: str
    next: str | None


class TimelineEvent(TypedDict):
    """One event of a record, and how long after others it happened."""

    id: str | None
    sequence: int
    kind: str
    time: str
    actor: str | None
    causation_id: str | None
    elapsed_s: float
    since_previous_s: float
    data: Any
