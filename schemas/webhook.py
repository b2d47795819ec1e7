"""Webhooks: whom an organisation wants to be told of what happens, and each telling of it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar

from pydantic import AwareDatetime, Field, StringConstraints

from schemas.base import Name, Shape, StatefulRecord, Transitions
from schemas.states import (
    DELIVERY_TRANSITIONS,
    WEBHOOK_TRANSITIONS,
    WebhookDeliveryStatus,
    WebhookStatus,
)

Url = Annotated[str, StringConstraints(min_length=8, max_length=2048, pattern=r"^https?://[!-~]+$")]
Resources = Annotated[
    list[Annotated[str, StringConstraints(max_length=64, pattern=r"^[a-z][a-z-]*$")]],
    Field(max_length=32, examples=[["image", "deployment"]]),
]
"""Kinds of records, as they stand in the subjects of events. Empty: all."""
Kinds = Annotated[
    list[
        Annotated[
            str,
            StringConstraints(max_length=128, pattern=r"^[a-z][a-z0-9_-]*(\.[a-z][a-z0-9_-]*)*$"),
        ]
    ],
    Field(max_length=32, examples=[["ready", "failed", "upload"]]),
]
"""Of events; `upload` covers `upload.started` and its like. Empty: all."""


class WebhookSpec(Shape):
    """What somebody asks for."""

    name: Name
    url: Url
    resources: Resources = Field(default_factory=list)
    kinds: Kinds = Field(default_factory=list)


class WebhookEdit(Shape):
    """What is given is changed. `active: false` tells nothing, and nothing later of that time."""

    url: Url | None = None
    resources: Resources | None = None
    kinds: Kinds | None = None
    active: bool | None = None


class SigningSecret(Shape):
    sealed: str
    """`pipeline.secrets.vault`"""
    until: AwareDatetime | None = None
    """When it stops signing; None is the newest one."""


class Webhook(StatefulRecord, collection="webhooks", resource="webhook"):
    """ACTIVE ⇄ DISABLED → DELETED. `name` is unique within the organisation."""

    transitions: ClassVar[Transitions] = WEBHOOK_TRANSITIONS
    facts: ClassVar = ("name", "status", "reason")

    status: WebhookStatus = WebhookStatus.ACTIVE
    name: str
    url: str
    resources: list[str]
    kinds: list[str]
    secrets: list[SigningSecret] = Field(default_factory=list, repr=False)
    """Newest first. Not shown."""
    after: int
    """Sequence of the event stream: what came later is told. Not shown."""
    turn: int = 1
    """Counts how often it began to listen: each time from another place. Not shown."""
    created_by: str | None = None


class Attempt(Shape):
    at: AwareDatetime
    status: int | None = None
    """Of the answer; None when there was none."""
    error: str | None = None
    """Why it counts as failed."""
    milliseconds: int


class WebhookDelivery(StatefulRecord, collection="webhook_deliveries", resource="webhook-delivery"):
    """One event for one webhook: PENDING → DELIVERED or DEAD, and again from there on demand."""

    transitions: ClassVar[Transitions] = DELIVERY_TRANSITIONS
    facts: ClassVar = ("webhook", "about", "kind", "status", "reason")

    status: WebhookDeliveryStatus = WebhookDeliveryStatus.PENDING
    webhook: str
    """Its uuid."""
    about: str
    """`<resource>/<id>`: those about the same record are told one after the other."""
    kind: str
    sequence: int
    """Of the event in its stream; 0 of a test."""
    body: str
    """As it is sent each time."""
    tries: int = 0
    attempts: list[Attempt] = Field(default_factory=list)
    """The last ones, oldest first."""
    next_at: datetime | None = None
    """When it is tried, or tried again. None once it is over."""
