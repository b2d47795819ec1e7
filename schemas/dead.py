"""Dead letters: messages that could not be handled, with everything needed to understand why."""

from __future__ import annotations

from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field


class Attempt(BaseModel):
    """One failed attempt at a message."""

    model_config = ConfigDict(extra="ignore")

    number: int
    """From 1; a number that is missing was never reported, because its worker died."""
    at: AwareDatetime
    code: str
    reason: str
    worker: str


class Obituary(BaseModel):
    """What is written beside a dead message, in one header."""

    model_config = ConfigDict(extra="ignore")

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


class DeadLetter(Obituary):
    """A dead message as it is shown."""

    id: str
    subject: str
    """Where it was published."""
    type: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    data: Any = None
    """The payload when it is JSON. Lists leave payloads out."""
    data_base64: str | None = None
    """The payload when it is not."""
