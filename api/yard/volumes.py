"""`/yard/v1/volumes`: what containers of the organisation keep, also those that are gone."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.http.answers import JSON, Cursor, Limit, PageView, page_response
from api.http.auth import GuardedRoute, ServicesDep, needs
from api.http.problem_details import problems
from api.yard.views import VolumeView, volume_json
from schemas.access import Permission, Principal

router = APIRouter(prefix="/yard/v1/volumes", tags=["containers"], route_class=GuardedRoute)


@router.get("", responses={200: {"model": PageView[VolumeView]}, **problems(422, 503)})  # type: ignore[valid-type]
async def list_volumes(
    request: Request,
    caller: Annotated[Principal, needs(Permission.CONTAINER_VIEW)],
    yard: ServicesDep,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Volumes with the name of the containers that get them, and their node; newest first."""
    volumes = yard.containers.service.volumes
    page = await volumes.list(caller, limit=limit, cursor=cursor)
    return page_response(page, volume_json, request=request, caller=caller)


@router.delete(
    "/{uuid}", status_code=202, responses={202: {"model": VolumeView}, **problems(404, 409, 503)}
)
async def delete_volume(
    uuid: str, caller: Annotated[Principal, needs(Permission.CONTAINER_STOP)], yard: ServicesDep
) -> Response:
    """Have its node remove it, with what is in it. Its container must be gone. Idempotent."""
    volume = await yard.containers.service.volumes.delete(caller, uuid)
    return Response(volume_json(volume, caller), 202, media_type=JSON)
