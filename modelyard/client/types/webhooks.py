"""Types of what is asked and answered: webhooks.

Made of the OpenAPI document by `make docs`.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict


class SigningSecretsView(TypedDict):
    """`SigningSecretsView` of the document."""

    secrets: list[str]


class Webhook(TypedDict):
    """ACTIVE ⇄ DISABLED → DELETED. `name` is unique within the organisation."""

    uuid: str
    org: str
    revision: int
    created_at: str
    updated_at: str
    reason: str | None
    status: WebhookStatus
    status_since: str | None
    name: str
    url: str
    resources: list[str]
    kinds: list[str]
    created_by: str | None


class WebhookAttempt(TypedDict):
    """`WebhookAttempt` of the document."""

    at: str
    status: int | None
    error: str | None
    milliseconds: int


class WebhookDelivery(TypedDict):
    """One event for one webhook: PENDING → DELIVERED or DEAD, and again from there on demand."""

    uuid: str
    org: str
    revision: int
    created_at: str
    updated_at: str
    reason: str | None
    status: WebhookDeliveryStatus
    status_since: str | None
    webhook: str
    about: str
    kind: str
    sequence: int
    body: str
    tries: int
    attempts: list[WebhookAttempt]
    next_at: str | None


WebhookDeliveryStatus = Literal["PENDING", "DELIVERED", "DEAD"]


class WebhookEdit(TypedDict):
    """What is given is changed. `active: false` tells nothing, and nothing later of that time."""

    url: NotRequired[str | None]
    resources: NotRequired[list[str] | None]
    kinds: NotRequired[list[str] | None]
    active: NotRequired[bool | None]


class WebhookSpec(TypedDict):
    """What somebody asks for."""

    name: str
    url: str
    resources: NotRequired[list[str]]
    kinds: NotRequired[list[str]]


WebhookStatus = Literal["ACTIVE", "DISABLED", "DELETED"]
