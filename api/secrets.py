"""Registry secrets as the imported-containers clients know them: `/accounts/secrets/` and
`/accounts/secret/config/`."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from api.answers import JSON
from api.auth import GuardedRoute, needs
from api.deps import Yard
from api.detail_answers import read_object, require_own_org
from pipeline.errors import NotFound
from pipeline.rules.secret_types import ABSENT, FIELDS
from pipeline.services import Services
from schemas.access import Permission, Principal
from schemas.secret import SecretSummary

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


class Detail(BaseModel):
    detail: Any


_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"type": "object"},
                "example": {
                    "secret_type": "registry",
                    "name": "team-registry",
                    "data": {"server": "registry.example:5000", "username": "ci", "password": "…"},
                },
            }
        },
    }
}


def _failures(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Detail} for status in (401, 403, *statuses, 503)}


@router.post(
    "/secrets/",
    status_code=201,
    responses={201: {"model": SecretObject}, **_failures(400, 413)},
    openapi_extra=_BODY,
)
async def create_secret(request: Request, caller: Writer, yard: Yard) -> Response:
    """Keep credentials of a registry. Nobody sees their values again."""
    body = await read_object(request)
    require_own_org(caller, body, request.query_params)
    made = await yard.secrets.create(
        caller,
        name=body.get("name", ABSENT),
        secret_type=body.get("secret_type", ABSENT),
        data=body.get("data", ABSENT),
    )
    return _json(_object(made), 201)


@router.get("/secrets/", responses={200: {"model": SecretObjects}, **_failures()})
async def list_secrets(request: Request, caller: Viewer, yard: Yard) -> Response:
    """All of the organisation, newest first."""
    require_own_org(caller, request.query_params)
    found = await yard.secrets.list(caller)
    return _json({"data": [_object(each) for each in found]})


@router.get("/secrets/{secret_id}/", responses={200: {"model": SecretObject}, **_failures(404)})
async def get_secret(request: Request, secret_id: str, caller: Viewer, yard: Yard) -> Response:
    """One of them, without its values."""
    require_own_org(caller, request.query_params)
    return _json(_object(await _find(yard, caller, secret_id)))


@router.delete("/secrets/{secret_id}/", responses={200: {"model": Detail}, **_failures(400, 404)})
async def delete_secret(request: Request, secret_id: str, caller: Writer, yard: Yard) -> Response:
    """Forget it, unless a container or a registry entry uses it."""
    require_own_org(caller, request.query_params)
    found = await _find(yard, caller, secret_id)
    with _called_secret():
        await yard.secrets.delete(caller, found.uuid)
    return _json({"detail": "Secret deleted successfully."})


@router.get("/secret/config/", responses={200: {"model": dict[str, Any]}, **_failures()})
async def get_secret_config(request: Request, caller: Viewer, yard: Yard) -> Response:
    """The kinds of secrets and the values that each one needs."""
    require_own_org(caller, request.query_params)
    kinds = [
        {
            "secret_type": kind,
            "fields": [
                {"name": each.name, "required": each.required, "sensitive": each.sensitive}
                for each in fields
            ],
        }
        for kind, fields in FIELDS.items()
    ]
    return _json({"data": kinds})


async def _find(yard: Services, caller: Principal, text: str) -> SecretSummary:
    """By its id only, in any spelling of a UUID. Raises NotFound."""
    with _called_secret():
        try:
            id = str(uuid.UUID(text))
        except ValueError:
            raise NotFound(text) from None
        found = await yard.secrets.get(caller, id)
        if found.uuid != id:
            # Its name looks like an id.
            raise NotFound(text)
        return found


@contextmanager
def _called_secret() -> Iterator[None]:
    try:
        yield
    except NotFound as error:
        raise NotFound("Secret not found.") from error


def _object(secret: SecretSummary) -> dict[str, Any]:
    return {
        "uuid": secret.uuid,
        "name": secret.name,
        "secret_type": secret.secret_type,
        "org": secret.org,
        "reference_count": secret.reference_count,
        "is_simplismart_managed": False,
        "is_system_generated": False,
        "created_at": _time(secret.created_at),
        "updated_at": _time(secret.updated_at),
    }


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _json(body: Any, status: int = 200) -> Response:
    return Response(json.dumps(body), status, media_type=JSON)
