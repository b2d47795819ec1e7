"""Which role holds which permissions, and as whom work is done that came through no door."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from pipeline import topology
from pipeline.errors import PermissionDenied
from schemas.access import Permission as P
from schemas.access import Principal, Role
from schemas.message import Message

_EVERYTHING: Final = frozenset(P)
_ADMINISTRATION: Final = frozenset(
    {P.TOKEN_WRITE, P.USER_WRITE, P.DEAD_LETTER_WRITE, P.DEAD_LETTER_REVEAL}
    | {P.NODE_WRITE, P.ORGANISATION_WRITE, P.CATALOG_WRITE, P.AUDIT_READ}
)

PERMISSIONS: Final[Mapping[Role, frozenset[P]]] = MappingProxyType(
    {
        Role.ADMIN: _EVERYTHING,
        Role.MEMBER: _EVERYTHING - _ADMINISTRATION,
        Role.VIEWER: frozenset(each for each in P if each.value.endswith(":view")),
        Role.SERVICE: frozenset({P.CONTAINER_VIEW, P.CONTAINER_RUN, P.CONTAINER_STOP, P.LOG_VIEW}),
        Role.NODE: frozenset(
            {P.NODE_VIEW, P.NODE_WRITE, P.IMAGE_VIEW, P.CONTAINER_VIEW, P.CATALOG_VIEW}
        ),
    }
)

_OF_THE_INSTALLATION: Final = frozenset({P.NODE_WRITE, P.ORGANISATION_WRITE})
"""Nodes serve every organisation, so only the installation's own may change them; and its
administrators are those of the platform, who keep the organisations."""


def permissions(roles: Iterable[Role], *, own: bool) -> frozenset[P]:
    """`own`: whether the organisation is the one that the installation belongs to."""
    held = frozenset[P]().union(*(PERMISSIONS[role] for role in roles))
    return held if own else held - _OF_THE_INSTALLATION


def require(caller: Principal, permission: P) -> None:
    """Raises PermissionDenied."""
    if permission not in caller.permissions:
        raise PermissionDenied(
            f"This needs the permission {permission}: ask an administrator.", permission=permission
        )


def require_cover(caller: Principal, role: Role) -> None:
    """Nobody gives away more than he holds. Raises PermissionDenied."""
    given = PERMISSIONS[role]
    if role is not Role.NODE:
        given -= _OF_THE_INSTALLATION
    if not given <= caller.permissions:
        raise PermissionDenied(f"The role {role} may do more than you may: ask an administrator.")


def sender(command: Message, *, home: str | None = None) -> Principal:
    """A member of the organisation in the subject: whoever may publish there may do that.

    The payload and the headers name nobody who would be believed. `home`: the installation's own
    organisation, where it is about nodes, organisations or users: only who may publish there may
    change them. He gives nobody a role that may do more.
    """
    org = topology.parse_command(command.subject).org
    more = _OF_THE_INSTALLATION | {P.USER_WRITE} if org == home else frozenset()
    return _member(org, f"queue:{command.source}", "queue", more)


def acting_for(org: str, id: str | None) -> Principal:
    """A member of the organisation, on whose behalf a worker goes on with what he asked for."""
    return _member(org, id or "worker:models", "models")


def _member(org: str, id: str, name: str, more: frozenset[P] = frozenset()) -> Principal:
    held = frozenset({Role.MEMBER})
    allowed = permissions(held, own=False) | more
    return Principal(id=id, org=org, name=name, roles=held, permissions=allowed)
