"""`/yard/v1/registries`: what lies in those of the directory, and how they have been;
`/yard/v1/secrets`: credentials with what a first login found, and their key's rotation."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Body, Request
from pydantic import BaseModel, Field, SecretStr
from starlette.responses import Response

from api.http.answers import JSON, Cursor, Key, Limit, PageView, cursor, location, page_response
from api.http.auth import GuardedRoute, ServicesDep, needs
from api.http.problem_details import problems
from pipeline.errors import InvalidInput
from pipeline.registries import entries
from pipeline.secrets.types import FIELDS
from schemas.access import Permission, Principal
from schemas.base import Shape
from schemas.registry import Registry, RegistryHealth
from schemas.secret import SecretSummary, SecretType

router = APIRouter(prefix="/yard/v1/registries", tags=["registries"], route_class=GuardedRoute)

Viewer = Annotated[Principal, needs(Permission.REGISTRY_VIEW)]
NameCursor = Annotated[str | None, cursor("^[A-Za-z0-9._/-]+$")]
"""The last name that was listed."""


class EntryView(BaseModel):
    """An entry of the directory; its other fields are for those who keep it."""

    id: str
    uuid: str
    name: str
    public_url: str
    image_prefix: str
    tags: list[str]
    secret: str | None
    health: RegistryHealth | None
    """The newest check; null before the first."""
    created_at: datetime
    changed_at: datetime


class ChecksView(BaseModel):
    """The last hundred checks, newest first."""

    items: list[RegistryHealth]


@router.get("", responses={200: {"model": PageView[EntryView]}, **problems(422, 503)})
async def list_registries(
    request: Request,
    caller: Viewer,
    services: ServicesDep,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """The directory of the organisation, newest first. To search it: `/container_registries`."""
    page = await services.registries.service.list(caller, limit=limit, cursor=cursor)
    return page_response(page, _entry, request=request, caller=caller)


@router.get("/{registry_id}", responses={200: {"model": EntryView}, **problems(404, 503)})
async def get_registry(registry_id: str, caller: Viewer, services: ServicesDep) -> Response:
    """One entry and how it was found the last time."""
    registry = await services.registries.service.get(caller, registry_id)
    return Response(_entry(registry, caller), media_type=JSON)


@router.get(
    "/{registry_id}/repositories",
    responses={200: {"model": PageView[str]}, **problems(404, 422, 502, 503)},
)
async def list_repositories(
    request: Request,
    registry_id: str,
    caller: Viewer,
    services: ServicesDep,
    limit: Limit = 50,
    cursor: NameCursor = None,
) -> Response:
    """Repositories, as the registry itself lists them now. Many public registries deny this."""
    page = await services.registries.catalogue.repositories(
        caller, registry_id, limit=limit, cursor=cursor
    )
    return page_response(page, _name, request=request, caller=caller)


@router.get(
    "/{registry_id}/repositories/{repository:path}/tags",
    responses={200: {"model": PageView[str]}, **problems(404, 422, 502, 503)},
)
async def list_tags(
    request: Request,
    registry_id: str,
    repository: str,
    caller: Viewer,
    services: ServicesDep,
    limit: Limit = 50,
    cursor: NameCursor = None,
) -> Response:
    """Tags of one repository, in the order of the registry."""
    page = await services.registries.catalogue.tags(
        caller, registry_id, repository, limit=limit, cursor=cursor
    )
    return page_response(page, _name, request=request, caller=caller)


@router.get("/{registry_id}/checks", responses={200: {"model": ChecksView}, **problems(404, 503)})
async def list_checks(registry_id: str, caller: Viewer, services: ServicesDep) -> Response:
    """How the registry has been: the last hundred checks, newest first."""
    registry = await services.registries.service.get(caller, registry_id)
    checks = await services.registries.checks.history(caller, registry.uuid)
    items = [entries.shown_health(check.model_dump()) for check in checks]
    return Response(json.dumps({"items": items}), media_type=JSON)


def _entry(registry: Registry, caller: Principal) -> bytes:
    return EntryView.model_validate(dict(registry)).model_dump_json().encode()


def _name(name: str, caller: Principal) -> bytes:
    return json.dumps(name).encode()


secrets = APIRouter(prefix="/yard/v1/secrets", tags=["registries"], route_class=GuardedRoute)

SecretViewer = Annotated[Principal, needs(Permission.SECRET_VIEW)]
Keeper = Annotated[Principal, needs(Permission.SECRET_WRITE)]
Operator = Annotated[Principal, needs(Permission.NODE_WRITE)]
"""Keys seal the secrets of every organisation: only the installation's own may turn them.

An agent's token holds this permission, too, but does not write secrets.
"""


class SecretRequest(Shape):
    name: str = Field(max_length=1024, examples=["team-registry"])
    secret_type: SecretType = SecretType.REGISTRY
    data: dict[str, SecretStr]
    """`server`, `username` and `password`; of `docker_hub` and `depot` `username` and `token`."""


class SecretsView(BaseModel):
    items: list[SecretSummary]


class RotationView(BaseModel):
    resealed: int
    unreadable: list[str]
    """Secrets that no configured key opens, which must be entered anew, and webhooks of which none
    opens what signs: rotate theirs."""


@secrets.get("", responses={200: {"model": SecretsView}, **problems(503)})
async def list_registry_secrets(caller: SecretViewer, services: ServicesDep) -> Response:
    """All of the organisation, newest first; `login` says whether the server took them."""
    view = SecretsView(items=await services.secrets.service.list(caller))
    return Response(view.model_dump_json(), media_type=JSON)


@secrets.post(
    "",
    status_code=201,
    responses={201: {"model": SecretSummary}, **problems(400, 409, 413, 415, 422, 503)},
)
async def add_registry_secret(
    asked: Annotated[SecretRequest, Body()], caller: Keeper, services: ServicesDep, key: Key = None
) -> Response:
    """Keep credentials of a registry. They are tried once; the finding is in `login`."""
    _require_known(asked)
    data = {name: value.get_secret_value() for name, value in asked.data.items()}
    made = await services.secrets.service.create(
        caller, name=asked.name, secret_type=asked.secret_type, data=data, key=key
    )
    return Response(made.model_dump_json(), 201, location(made, secrets.prefix), JSON)


def _require_known(asked: SecretRequest) -> None:
    """Raises InvalidInput for values that this kind of secret does not have."""
    known = [field.name for field in FIELDS[asked.secret_type]]
    if not asked.data.keys() <= set(known):
        told = f"data of {asked.secret_type} has {', '.join(known)} and nothing else."
        raise InvalidInput(told, field="data")


@secrets.get("/{secret:path}", responses={200: {"model": SecretSummary}, **problems(404, 503)})
async def get_registry_secret(secret: str, caller: SecretViewer, services: ServicesDep) -> Response:
    """One secret, by its id or name, without its values."""
    return Response(
        (await services.secrets.service.get(caller, secret)).model_dump_json(), media_type=JSON
    )


@secrets.delete("/{secret:path}", status_code=204, responses={204: {}, **problems(404, 409, 503)})
async def delete_registry_secret(secret: str, caller: Keeper, services: ServicesDep) -> Response:
    """Forget a secret, by its id or name, that no image and no registry entry uses."""
    await services.secrets.service.delete(caller, secret)
    return Response(status_code=204)


@secrets.post("/rotate-key", responses={200: {"model": RotationView}, **problems(503)})
async def rotate_key(caller: Keeper, _: Operator, services: ServicesDep) -> Response:
    """Seal everything anew with the first configured key. Can be repeated."""
    done = await services.secrets.service.rotate_keys()
    signing = await services.webhooks.service.rotate_keys()
    view = RotationView(
        resealed=done.resealed + signing.resealed,
        unreadable=[*done.unreadable, *signing.unreadable],
    )
    return Response(view.model_dump_json(), media_type=JSON)
