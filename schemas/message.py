"""Messages: CloudEvents 1.0 in binary mode, attributes in NATS headers, data as JSON."""

from __future__ import annotations

from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field


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
    traceparent: str | None = None
    data: dict[str, Any] = Field(default_factory=dict)
