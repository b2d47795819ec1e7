"""Which role holds which permissions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from pipeline.errors import PermissionDenied
from schemas.access import Permission as P
from schemas.access import Principal, Role

_EVERYTHING: Final = frozenset(P)
_ADMINISTRATION: Final = frozenset({P.TOKEN_WRITE, P.USER_WRITE, P.DEAD_LETTER_WRITE, P.NODE_WRITE})

PERMISSIONS: Final[Mapping[Role, frozenset[P]]] = MappingProxyType(
    {
        Role.ADMIN: _EVERYTHING,
        Role.MEMBER: _EVERYTHING - _ADMINISTRATION,
        Role.VIEWER: frozenset(each for each in P if each.value.endswith(":view")),
        Role.NODE: frozenset({P.NODE_VIEW, P.NODE_WRITE, P.IMAGE_VIEW, P.CONTAINER_VIEW}),
    }
)

_OF_THE_INSTALLATION: Final = frozenset({P.NODE_WRITE})
"""Nodes serve every organisation, so only the installation's own may change them."""


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
