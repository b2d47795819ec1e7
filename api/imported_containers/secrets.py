"""Registry secrets as the imported-containers clients know them: `/accounts/secrets/` and
`/accounts/secret/config/`. Their failures have one member, `detail`: a text, or an object of fields
with their messages."""

from __future__ import annotations

import uuid
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from api.http.auth import GuardedRoute, ServicesDep, needs
from api.imported_containers.answers import (
    Detail,
    failures,
    json_answer,
    own_org,
    read_object,
    time_text,
)
from pipeline.bootstrap.control_plane import Services
from pipeline.errors import AlreadyExists, Conflict, NotFound
from pipeline.secrets.types import ABSENT, FIELDS
from schemas.access import Permission, Principal
from schemas.registries.secret import SecretSummary

PREFIXES = ("/accounts/secrets", "/accounts/secret")

router = APIRouter(prefix="/accounts", tags=["registry secrets"], route_class=GuardedRoute)

Viewer = Annotated[Principal, needs(Permission.SECRET_VIEW)]
Writer = Annotated[Principal, needs(Permission.SECRET_WRITE)]


class SecretObject(BaseModel):
    uuid: str
    name: str
    secret_type: str
    org: str
    reference_count: int
    is_simplismart_managed: bool
    is_system_generated: bool
    created_at: str
    updated_at: str


class SecretObjects(BaseModel):
    data: list[SecretObject]


_EXAMPLE = {
    "secret_type": "registry",
    "name": "team-registry",
    "data": {"server": "registry.example:5000", "username": "ci", "password": "…"},
}
_CONTENT = {"application/json": {"schema": {"type": "object"}, "example": _EXAMPLE}}
_BODY = {"requestBody": {"required": True, "content": _CONTENT}}


@router.post(
    "/secrets/",
    status_code=201,
    responses={201: {"model": SecretObject}, **failures(400, 413)},
    openapi_extra=_BODY,
)
async def create_secret(request: Request, caller: Writer, services: ServicesDep) -> Response:
    """Keep credentials of a registry. Nobody sees their values again."""
    body = await read_object(request)
    org = await own_org(services, caller, body, request.query_params)
    given = {name: body.get(name, ABSENT) for name in ("name", "secret_type", "data")}
    try:
        made = await services.secrets.service.create(caller, **given)
    except AlreadyExists as error:
        told = "Secret with this name already exists for this organization."
        raise AlreadyExists(told) from error
    return json_answer(_object(made, org), 201)


@router.get("/secrets/", responses={200: {"model": SecretObjects}, **failures()})
async def list_secrets(request: Request, caller: Viewer, services: ServicesDep) -> Response:
    """All of the organisation, newest first."""
    org = await own_org(services, caller, request.query_params)
    found = await services.secrets.service.list(caller)
    return json_answer({"data": [_object(each, org) for each in found]})


@router.get("/secrets/{secret_id}/", responses={200: {"model": SecretObject}, **failures(404)})
async def get_secret(
    request: Request, secret_id: str, caller: Viewer, services: ServicesDep
) -> Response:
    """One of them, without its values."""
    org = await own_org(services, caller, request.query_params)
    return json_answer(_object(await _find(services, caller, secret_id), org))


@router.delete("/secrets/{secret_id}/", responses={200: {"model": Detail}, **failures(400, 404)})
async def delete_secret(
    request: Request, secret_id: str, caller: Writer, services: ServicesDep
) -> Response:
    """Forget it, unless a container or a registry entry uses it."""
    await own_org(services, caller, request.query_params)
    found = await _find(services, caller, secret_id)
    try:
        await services.secrets.service.delete(caller, found.uuid)
    except NotFound as error:
        raise _missing() from error
    except Conflict as error:
        raise Conflict("Secret is in use and cannot be deleted.") from error
    return json_answer({"detail": "Secret deleted successfully."})


@router.get("/secret/config/", responses={200: {"model": dict[str, Any]}, **failures()})
async def get_secret_config(request: Request, caller: Viewer, services: ServicesDep) -> Response:
    """The kinds of secrets and the values that each one needs."""
    await own_org(services, caller, request.query_params)
    kinds = [
        {"secret_type": kind, "fields": [asdict(each) for each in fields]}
        for kind, fields in FIELDS.items()
    ]
    return json_answer({"data": kinds})


async def _find(services: Services, caller: Principal, text: str) -> SecretSummary:
    """By its id only, in any spelling of a UUID. Raises NotFound."""
    try:
        id = str(uuid.UUID(text))
        found = await services.secrets.service.get(caller, id)
    except (ValueError, NotFound):
        raise _missing() from None
    if found.uuid != id:
        # Its name looks like an id.
        raise _missing()
    return found


def _missing() -> NotFound:
    return NotFound("Secret not found.")


def _object(secret: SecretSummary, org: str) -> dict[str, Any]:
    times = {"created_at": time_text(secret.created_at), "updated_at": time_text(secret.updated_at)}
    whose = dict.fromkeys(("is_simplismart_managed", "is_system_generated"), False)
    return SecretObject(**secret.model_dump() | times | whose | {"org": org}).model_dump()
