"""Types of what is asked and answered: messages.

Made of the OpenAPI document by `make docs`.
"""

from __future__ import annotations

from typing import Any, TypedDict


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
