"""Organisations with users, roles and keys, made from outside: no door makes them yet."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

from pipeline.access import roles
from pipeline.access.service import Access
from pipeline.bootstrap.control_plane import Services
from schemas.access import Principal, Role, User
from schemas.organisation import OrganisationSpec

PASSWORD = "open sesame, please"


def principal(org: str, role: Role = Role.ADMIN) -> Principal:
    """Somebody of that role, as the doors would find him; he is in no store."""
    return Principal(
        id=f"user:{role}",
        org=org,
        name=role.value,
        roles=frozenset({role}),
        permissions=roles.permissions([role], own=True),
    )


async def an_organisation(services: Services) -> str:
    """The slug of a new one."""
    spec = OrganisationSpec(slug=f"o{uuid.uuid4().hex[:12]}")
    return (await services.organisations.create(principal(services.settings.org), spec)).slug


@dataclass(frozen=True, slots=True)
class Tenant:
    """An organisation, its own for each test unless it is named."""

    access: Access
    org: str = field(default_factory=lambda: f"o{uuid.uuid4().hex[:12]}")

    async def user(self, role: Role = Role.MEMBER, name: str | None = None) -> User:
        """One who may log in with PASSWORD."""
        caller = principal(self.org)
        return await self.access.users.create(caller, name or f"the-{role}", PASSWORD, role)

    async def key(self, role: Role = Role.ADMIN, **wish: Any) -> str:
        """The text of a token, an API key unless `wish` says otherwise."""
        caller, name = principal(self.org), uuid.uuid4().hex
        return (await self.access.tokens.issue(caller, name=name, role=role, **wish)).text

    async def headers(self, role: Role = Role.ADMIN) -> dict[str, str]:
        return {"Authorization": f"Bearer {await self.key(role)}"}
