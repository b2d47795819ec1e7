"""`/yard/v1/registries`: what lies in the registries of the directory, and how they have been."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from api.answers import JSON, problems
from api.auth import GuardedRoute, needs
from api.deps import Yard
from api.paging import Cursor, Limit, PageView, page_response
from pipeline.rules import registry_entries
from schemas.access import Permission, Principal
from schemas.registry import RegistryHealth

router = APIRouter(prefix="/yard/v1/registries", tags=["registries"], route_class=GuardedRoute)

Viewer = Annotated[Principal, needs(Permission.REGISTRY_VIEW)]


class ChecksView(BaseModel):
    """The last hundred checks, newest first."""

    items: list[RegistryHealth]


@router.get(
    "/{registry_id}/repositories",
    responses={200: {"model": PageView[str]}, **problems(404, 422, 502, 503)},
)
async def list_repositories(
    request: Request,
    registry_id: str,
    caller: Viewer,
    yard: Yard,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Repositories, as the registry itself lists them now. Many public registries deny this."""
    page = await yard.directory.catalogue.repositories(
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
    yard: Yard,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Tags of one repository, in the order of the registry."""
    page = await yard.directory.catalogue.tags(
        caller, registry_id, repository, limit=limit, cursor=cursor
    )
    return page_response(page, _name, request=request, caller=caller)


@router.get("/{registry_id}/checks", responses={200: {"model": ChecksView}, **problems(404, 503)})
async def list_checks(registry_id: str, caller: Viewer, yard: Yard) -> Response:
    """How the registry has been: the last hundred checks, newest first."""
    registry = await yard.directory.entries.get(caller, registry_id)
    checks = await yard.directory.checks.history(caller, registry.uuid)
    items = [registry_entries.shown_health(check.model_dump()) for check in checks]
    return Response(json.dumps({"items": items}), media_type=JSON)


def _name(name: str, caller: Principal) -> bytes:
    return json.dumps(name).encode()
