"""`/yard/v1/registries`: what lies in those of the directory, and how they have been."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from api.http.answers import JSON, Cursor, Limit, PageView, cursor, page_response
from api.http.auth import GuardedRoute, ServicesDep, needs
from api.http.problem_details import problems
from pipeline.registries import entries
from schemas.access import Permission, Principal
from schemas.registries.registry import Registry, RegistryHealth

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
