"""`/yard/v1/nodes`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.answers import JSON, problems
from api.auth import GuardedRoute, needs
from api.deps import Yard
from api.paging import Cursor, Limit, PageView, page_response
from api.views import NodeView, node_json
from schemas.access import Permission, Principal
from schemas.states import NodeStatus

router = APIRouter(prefix="/yard/v1/nodes", tags=["nodes"], route_class=GuardedRoute)

Viewer = Annotated[Principal, needs(Permission.NODE_VIEW)]


@router.get("", responses={200: {"model": PageView[NodeView]}, **problems(422, 503)})  # type: ignore[valid-type]
async def list_nodes(
    request: Request,
    caller: Viewer,
    yard: Yard,
    limit: Limit = 50,
    cursor: Cursor = None,
    status: Annotated[NodeStatus | None, Query(description="Only this status.")] = None,
    name: Annotated[str | None, Query(description="Only this name.", max_length=255)] = None,
) -> Response:
    """The machines of the installation, with their GPUs and which of them are in use."""
    page = await yard.nodes.list(caller, limit=limit, cursor=cursor, status=status, name=name)
    return page_response(page, node_json, request=request, caller=caller)


@router.get("/{uuid}", responses={200: {"model": NodeView}, **problems(404, 503)})
async def get_node(uuid: str, caller: Viewer, yard: Yard) -> Response:
    """One machine: its engine, platform, capacity, GPUs and last heartbeat.

    It has no ETag: heartbeats change it without a new revision.
    """
    return Response(node_json(await yard.nodes.get(caller, uuid), caller), media_type=JSON)
