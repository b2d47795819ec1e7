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


class Permission(StrEnum):
    """What a token may do. Doors map their own names onto these."""

    IMAGE_VIEW = "image:view"
    IMAGE_WRITE = "image:write"
    IMAGE_BUILD = "image:build"
    CONTAINER_VIEW = "container:view"
    CONTAINER_RUN = "container:run"
    CONTAINER_STOP = "container:stop"
    LOG_VIEW = "log:view"
    NODE_VIEW = "node:view"
    NODE_WRITE = "node:write"
    REGISTRY_VIEW = "registry:view"
    REGISTRY_WRITE = "registry:write"
    SECRET_VIEW = "secret:view"
    SECRET_WRITE = "secret:write"
    EVENT_VIEW = "event:view"
    DEAD_LETTER_VIEW = "dead-letter:view"
    DEAD_LETTER_WRITE = "dead-letter:write"
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


class User(Record):
    collection: ClassVar[str] = "users"
    resource: ClassVar[str] = "user"

    name: str
    password_hash: str = Field(repr=False)
    role: Role
    active: bool = True


class Token(Record):
    """A token that was handed out. Only a hash of an API key is kept; a JWT is not kept at all.

    The `uuid` is the id inside the token (`jti` of a JWT).
    """

    collection: ClassVar[str] = "tokens"
    resource: ClassVar[str] = "token"

    name: str
    kind: str
    """`jwt` or `api-key`; `session` notes a login that was ended before its tokens expired."""
    role: Role
    secret_hash: str | None = Field(default=None, repr=False)
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    created_by: str | None = None
    user: str | None = None
    """uuid of the user with whom it ends; None for tokens of nodes, which outlive users."""
