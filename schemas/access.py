"""Who may do what: organisations, users, tokens."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from schemas.base import Record, Shape


class Role(StrEnum):
    ADMIN = "admin"
    MEMBER = "member"
    VIEWER = "viewer"
    NODE = "node"
    SERVICE = "service"
    """Of programs that run containers and nothing else."""


class Permission(StrEnum):
    """What a token may do. Doors map their own names onto these."""

    IMAGE_VIEW = "image:view"
    IMAGE_WRITE = "image:write"
    IMAGE_BUILD = "image:build"
    CATALOG_VIEW = "catalog:view"
    CATALOG_WRITE = "catalog:write"
    """Of the organisation's Docker images, and of the tables that all share."""
    CONTAINER_VIEW = "container:view"
    CONTAINER_RUN = "container:run"
    CONTAINER_STOP = "container:stop"
    CONTAINER_EXEC = "container:exec"
    """To run commands in containers; each is an event."""
    DEPLOYMENT_VIEW = "deployment:view"
    DEPLOYMENT_WRITE = "deployment:write"
    LOG_VIEW = "log:view"
    NODE_VIEW = "node:view"
    NODE_WRITE = "node:write"
    REGISTRY_VIEW = "registry:view"
    REGISTRY_WRITE = "registry:write"
    SECRET_VIEW = "secret:view"
    SECRET_WRITE = "secret:write"
    EVENT_VIEW = "event:view"
    WEBHOOK_VIEW = "webhook:view"
    WEBHOOK_WRITE = "webhook:write"
    DEAD_LETTER_VIEW = "dead-letter:view"
    DEAD_LETTER_WRITE = "dead-letter:write"
    DEAD_LETTER_REVEAL = "dead-letter:reveal"
    """The whole text of a message that was given up, secrets included; each look is an event."""
    ORGANISATION_VIEW = "organisation:view"
    ORGANISATION_WRITE = "organisation:write"
    """Of all organisations, with their users: held by administrators of the installation's own."""
    AUDIT_READ = "audit:read"
    """Who did what in the organisation, and from where."""
    TOKEN_WRITE = "token:write"
    USER_WRITE = "user:write"


class Principal(Shape):
    """An authenticated caller."""

    id: str
    """For instance `user:3f…` or `token:9a…`; goes into events as the actor."""
    org: str
    name: str
    roles: frozenset[Role]
    permissions: frozenset[Permission]
    user: str | None = None
    """The user with whom the caller's token ends, as `User.holder` says it."""


class User(Record, collection="users", resource="user"):
    """Somebody who logs in with a password. A name is taken once in an organisation."""

    facts: ClassVar = ("name", "role", "active")

    name: str
    password_hash: str = Field(repr=False)
    role: Role
    active: bool = True
    generation: int = 0
    """Counts changes of role and password: what was handed out before them is good no more."""

    @property
    def holder(self) -> str:
        """With whom tokens end that are handed out now."""
        return self.holders[-1]

    @property
    def holders(self) -> tuple[str, ...]:
        """Of every generation, the newest last. The first is the uuid alone."""
        later = (f"{self.uuid}.{number}" for number in range(1, self.generation + 1))
        return (self.uuid, *later)

    @property
    def ended(self) -> tuple[str, ...]:
        """Whose tokens open nothing any more."""
        return self.holders[:-1] if self.active else self.holders


class UserEdit(Shape):
    """What is given is changed, each but `active: true` with the end of what the user holds."""

    role: Role | None = None
    active: bool | None = None


class Token(Record, collection="tokens", resource="token"):
    """A token that was handed out. Only a hash of an API key is kept; a JWT is not kept at all.

    The `uuid` is the id inside the token (`jti` of a JWT).
    """

    name: str
    kind: str
    """`jwt` or `api-key`; `session` notes a login that was ended before its tokens expired."""
    role: Role
    secret_hash: str | None = Field(default=None, repr=False)
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    created_by: str | None = None
    user: str | None = None
    """The user with whom it ends, as `User.holder` says it; None for tokens of nodes, which outlive
    users."""


class AuditEntry(Record, collection="audit", resource="audit-entry"):
    """Something that somebody did: made of the event that tells it. It never changes.

    `uuid` follows from organisation and event, `created_at` is when it happened, and `cause` the
    request or command with which it was asked for.
    """

    actor: str
    origin: str
    """The address of an HTTP client, or `nats`."""
    action: str
    """Resource and kind of the event: `image.deleted`."""
    target: str
    """uuid of the record."""
    name: str | None = None
    """What the record was called."""
    event: str
    """`ce-id`."""
