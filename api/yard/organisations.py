"""`/yard/v1/organisations` and `/yard/v1/users`: for administrators, of the platform or of one
organisation."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request
from pydantic import Field, SecretStr
from starlette.responses import Response

from api.http.answers import (
    Cursor,
    IfMatch,
    IfNoneMatch,
    Key,
    Limit,
    PageView,
    changed,
    created,
    expected_revision,
    found,
    page_response,
)
from api.http.auth import GuardedRoute, ServicesDep, needs
from api.http.problem_details import problems
from api.yard.views import OrganisationView, UserView, organisation_json, user_json
from schemas.access import Permission, Principal, Role, UserEdit
from schemas.base import Shape
from schemas.organisation import OrganisationEdit, OrganisationSpec

router = APIRouter(
    prefix="/yard/v1/organisations", tags=["organisations"], route_class=GuardedRoute
)

Viewer = Annotated[Principal, needs(Permission.ORGANISATION_VIEW)]
Platform = Annotated[Principal, needs(Permission.ORGANISATION_WRITE)]

_EXAMPLES: Any = {
    "with quotas": {
        "value": {"slug": "research", "name": "Research", "quotas": {"gpus": 8, "containers": 50}}
    }
}
_EDIT_EXAMPLES: Any = {"quotas": {"value": {"quotas": {"gpus": 16}}}}


@router.post(
    "",
    status_code=201,
    responses={201: {"model": OrganisationView}, **problems(400, 409, 413, 415, 422, 503)},
)
async def create_organisation(
    spec: Annotated[OrganisationSpec, Body(openapi_examples=_EXAMPLES)],
    caller: Platform,
    services: ServicesDep,
    key: Key = None,
) -> Response:
    """Make an organisation. Its slug names it for ever, also after its deletion."""
    made = await services.organisations.create(caller, spec, key=key)
    return created(made, organisation_json(made, caller), router.prefix, settled=True)


@router.get("", responses={200: {"model": PageView[OrganisationView]}, **problems(422, 503)})  # type: ignore[valid-type]
async def list_organisations(
    request: Request,
    caller: Viewer,
    services: ServicesDep,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """All of them for administrators of the platform, newest first; for others their own."""
    page = await services.organisations.list(caller, limit=limit, cursor=cursor)
    return page_response(page, organisation_json, request=request, caller=caller)


@router.get(
    "/{organisation}", responses={200: {"model": OrganisationView}, 304: {}, **problems(404, 503)}
)
async def get_organisation(
    organisation: str, caller: Viewer, services: ServicesDep, if_none_match: IfNoneMatch = None
) -> Response:
    """One organisation, by its id or its slug."""
    known = await services.organisations.find(caller, organisation)
    return found(known, organisation_json(known, caller), if_none_match)


@router.patch(
    "/{organisation}",
    responses={
        200: {"model": OrganisationView},
        **problems(400, 404, 409, 412, 413, 415, 422, 503),
    },
)
async def edit_organisation(
    organisation: str,
    edit: Annotated[OrganisationEdit, Body(openapi_examples=_EDIT_EXAMPLES)],
    caller: Platform,
    services: ServicesDep,
    if_match: IfMatch = None,
) -> Response:
    """Change its name or its quotas; what was accepted before goes on."""
    expected = await expected_revision(
        if_match, lambda: services.organisations.find(caller, organisation)
    )
    edited = await services.organisations.edit(caller, organisation, edit, revision=expected)
    return changed(edited, organisation_json(edited, caller))


@router.delete(
    "/{organisation}",
    responses={200: {"model": OrganisationView}, **problems(404, 409, 412, 422, 503)},
)
async def delete_organisation(
    organisation: str, caller: Platform, services: ServicesDep, if_match: IfMatch = None
) -> Response:
    """Delete one that holds nothing any more; its users and tokens are good for nothing then."""
    expected = await expected_revision(
        if_match, lambda: services.organisations.find(caller, organisation)
    )
    gone = await services.organisations.delete(caller, organisation, revision=expected)
    return changed(gone, organisation_json(gone, caller))


users = APIRouter(prefix="/yard/v1/users", tags=["organisations"], route_class=GuardedRoute)

Admin = Annotated[Principal, needs(Permission.USER_WRITE)]
Org = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=128,
        description="Another organisation, by id or slug; for administrators of the platform.",
    ),
]


_USER_EXAMPLES: Any = {
    "a member": {"value": {"name": "ada", "password": "at least 8 characters", "role": "member"}}
}


_LONG_ENOUGH: Any = {"minLength": 8}
"""For documentation: the refusal is worded where passwords are hashed."""


class UserRequest(Shape):
    name: str = Field(min_length=1, max_length=255, examples=["ada"])
    password: SecretStr = Field(
        max_length=1024, examples=["at least 8 characters"], json_schema_extra=_LONG_ENOUGH
    )
    role: Role = Role.MEMBER
    """It may do no more than the caller."""


class UserChange(UserEdit):
    password: SecretStr | None = Field(
        default=None, max_length=1024, json_schema_extra=_LONG_ENOUGH
    )


@users.post(
    "",
    status_code=201,
    responses={201: {"model": UserView}, **problems(400, 404, 409, 413, 415, 422, 503)},
)
async def create_user(
    asked: Annotated[UserRequest, Body(openapi_examples=_USER_EXAMPLES)],
    caller: Admin,
    services: ServicesDep,
    org: Org = None,
    key: Key = None,
) -> Response:
    """Make somebody who may log in. A repeat with the same key does not compare the password."""
    password = asked.password.get_secret_value()
    user = await services.access.users.create(
        caller, asked.name, password, asked.role, org=org, key=key
    )
    return created(user, user_json(user, caller), users.prefix, settled=True)


@users.get("", responses={200: {"model": PageView[UserView]}, **problems(404, 422, 503)})  # type: ignore[valid-type]
async def list_users(
    request: Request,
    caller: Admin,
    services: ServicesDep,
    org: Org = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Users of one organisation, newest first."""
    page = await services.access.users.list(caller, org=org, limit=limit, cursor=cursor)
    return page_response(page, user_json, request=request, caller=caller)


@users.get("/{user}", responses={200: {"model": UserView}, 304: {}, **problems(404, 422, 503)})
async def get_user(
    user: str,
    caller: Admin,
    services: ServicesDep,
    org: Org = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """One user, by id or name."""
    known = await services.access.users.find(caller, user, org=org)
    return found(known, user_json(known, caller), if_none_match)


@users.patch(
    "/{user}",
    responses={200: {"model": UserView}, **problems(400, 404, 409, 412, 413, 415, 422, 503)},
)
async def edit_user(
    user: str,
    change: Annotated[UserChange, Body(openapi_examples={"out": {"value": {"active": False}}})],
    caller: Admin,
    services: ServicesDep,
    org: Org = None,
    if_match: IfMatch = None,
) -> Response:
    """Disable or enable a user, give another role or password.

    What the user held before opens nothing any more: here at once, elsewhere within seconds.
    """
    service = services.access.users
    expected = await expected_revision(if_match, lambda: service.find(caller, user, org=org))
    password = change.password.get_secret_value() if change.password else None
    edit = UserEdit(role=change.role, active=change.active)
    edited = await service.edit(caller, user, edit, password=password, org=org, revision=expected)
    return changed(edited, user_json(edited, caller))
