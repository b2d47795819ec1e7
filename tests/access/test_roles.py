import pytest

from pipeline.access.roles import permissions, require, require_cover
from pipeline.errors import PermissionDenied
from schemas.access import Permission, Principal, Role


def held(role: Role, own: bool = True) -> frozenset[Permission]:
    return permissions([role], own=own)


def principal(role: Role, own: bool = True) -> Principal:
    return Principal(
        id="user:1", org="acme", name="vic", roles=frozenset({role}), permissions=held(role, own)
    )


def test_an_admin_of_the_installation_holds_everything() -> None:
    assert held(Role.ADMIN) == frozenset(Permission)


def test_nobody_of_another_organisation_changes_nodes_or_organisations() -> None:
    platform = {Permission.NODE_WRITE, Permission.ORGANISATION_WRITE}
    for role in Role:
        assert not platform & held(role, own=False)
    assert held(Role.ADMIN, own=False) == frozenset(Permission) - platform


def test_a_member_does_everything_but_administration() -> None:
    lacking = frozenset(Permission) - held(Role.MEMBER)
    assert lacking == {
        Permission.TOKEN_WRITE,
        Permission.USER_WRITE,
        Permission.DEAD_LETTER_WRITE,
        Permission.DEAD_LETTER_REVEAL,
        Permission.NODE_WRITE,
        Permission.ORGANISATION_WRITE,
        Permission.CATALOG_WRITE,
        Permission.AUDIT_READ,
    }


@pytest.mark.parametrize("role", [Role.ADMIN, Role.MEMBER])
@pytest.mark.parametrize("own", [True, False])
def test_admin_and_member_hold_every_container_permission(role: Role, own: bool) -> None:
    assert held(role, own) >= {
        Permission.CONTAINER_RUN,
        Permission.CONTAINER_STOP,
        Permission.CONTAINER_VIEW,
        Permission.LOG_VIEW,
        Permission.IMAGE_BUILD,
    }


def test_a_viewer_only_looks() -> None:
    assert held(Role.VIEWER)
    assert all(permission.endswith(":view") for permission in held(Role.VIEWER))


def test_a_node_sees_what_it_runs_and_reports_itself() -> None:
    assert held(Role.NODE) == {
        Permission.NODE_VIEW,
        Permission.NODE_WRITE,
        Permission.IMAGE_VIEW,
        Permission.CONTAINER_VIEW,
        Permission.CATALOG_VIEW,
    }


def test_no_roles_hold_nothing() -> None:
    assert permissions([], own=True) == frozenset()


def test_a_missing_permission_is_named() -> None:
    viewer = principal(Role.VIEWER)
    require(viewer, Permission.IMAGE_VIEW)
    with pytest.raises(PermissionDenied, match="image:write"):
        require(viewer, Permission.IMAGE_WRITE)


@pytest.mark.parametrize("role", [Role.ADMIN, Role.MEMBER, Role.VIEWER])
def test_an_admin_hands_out_every_role_of_people(role: Role) -> None:
    require_cover(principal(Role.ADMIN), role)
    require_cover(principal(Role.ADMIN, own=False), role)


def test_only_the_own_organisation_of_the_installation_admits_nodes() -> None:
    require_cover(principal(Role.ADMIN), Role.NODE)
    with pytest.raises(PermissionDenied):
        require_cover(principal(Role.ADMIN, own=False), Role.NODE)


@pytest.mark.parametrize(
    ("caller", "role"),
    [(Role.MEMBER, Role.ADMIN), (Role.VIEWER, Role.MEMBER), (Role.NODE, Role.VIEWER)],
)
def test_nobody_hands_out_more_than_he_holds(caller: Role, role: Role) -> None:
    with pytest.raises(PermissionDenied, match=role):
        require_cover(principal(caller), role)
