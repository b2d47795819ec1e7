"""Types of what is asked and answered: access.

Made of the OpenAPI document by `make docs`.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict


class IssuedView(TypedDict):
    """A new token. `token` is shown this once."""

    uuid: str
    org: str
    revision: int
    created_at: str
    updated_at: str
    reason: str | None
    name: str
    kind: str
    role: Role
    expires_at: str | None
    revoked_at: str | None
    created_by: str | None
    user: str | None
    token: str


class LoginRequest(TypedDict):
    """`LoginRequest` of the document."""

    username: str
    password: str
    org: NotRequired[str | None]


class LogoutRequest(TypedDict):
    """`LogoutRequest` of the document."""

    token: str


class Organisation(TypedDict):
    """ACTIVE → DELETED. Its record belongs to the organisation of the installation (`org`)."""

    uuid: str
    org: str
    revision: int
    created_at: str
    updated_at: str
    reason: str | None
    status: OrganisationStatus
    status_since: str | None
    slug: str
    name: str
    quotas: Quotas
    created_by: str | None


class OrganisationEdit(TypedDict):
    """What is given is changed; quotas as a whole."""

    name: NotRequired[str | None]
    quotas: NotRequired[Quotas | None]


class OrganisationSpec(TypedDict):
    """What an administrator of the installation asks for."""

    slug: str
    name: NotRequired[str | None]
    quotas: NotRequired[Quotas]


OrganisationStatus = Literal["ACTIVE", "DELETED"]


Permission = Literal[
    "image:view",
    "image:write",
    "image:build",
    "catalog:view",
    "catalog:write",
    "container:view",
    "container:run",
    "container:stop",
    "container:exec",
    "deployment:view",
    "deployment:write",
    "log:view",
    "node:view",
    "node:write",
    "registry:view",
    "registry:write",
    "secret:view",
    "secret:write",
    "event:view",
    "webhook:view",
    "webhook:write",
    "dead-letter:view",
    "dead-letter:write",
    "dead-letter:reveal",
    "organisation:view",
    "organisation:write",
    "audit:read",
    "token:write",
    "user:write",
]


class Principal(TypedDict):
    """An authenticated caller."""

    id: str
    org: str
    name: str
    roles: list[Role]
    permissions: list[Permission]
    user: str | None


class Quotas(TypedDict):
    """What an organisation may have at most; None is as much as there is."""

    gpus: NotRequired[int | None]
    containers: NotRequired[int | None]
    archive_bytes: NotRequired[int | None]


class RefreshRequest(TypedDict):
    """`RefreshRequest` of the document."""

    refresh: str


Role = Literal["admin", "member", "viewer", "node", "service"]


class SessionView(TypedDict):
    """`SessionView` of the document."""

    access: str
    refresh: str
    token_type: str
    expires_at: str
    user: str
    org: str
    role: Role


class Token(TypedDict):
    """A token that was handed out. Only a hash of an API key is kept; a JWT is not kept at
    all."""

    uuid: str
    org: str
    revision: int
    created_at: str
    updated_at: str
    reason: str | None
    name: str
    kind: str
    role: Role
    expires_at: str | None
    revoked_at: str | None
    created_by: str | None
    user: str | None


class TokenRequest(TypedDict):
    """`TokenRequest` of the document."""

    name: str
    role: NotRequired[Role]
    kind: NotRequired[Literal["api-key", "jwt"]]
    ttl_s: NotRequired[int | None]


class User(TypedDict):
    """Somebody who logs in with a password. A name is taken once in an organisation."""

    uuid: str
    org: str
    revision: int
    created_at: str
    updated_at: str
    reason: str | None
    name: str
    role: Role
    active: bool


class UserChange(TypedDict):
    """`UserChange` of the document."""

    role: NotRequired[Role | None]
    active: NotRequired[bool | None]
    password: NotRequired[str | None]


class UserRequest(TypedDict):
    """`UserRequest` of the document."""

    name: str
    password: str
    role: NotRequired[Role]
