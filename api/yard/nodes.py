"""`/yard/v1/nodes`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.http.answers import JSON, Called, Cursor, Limit, PageView, page_response
from api.http.auth import GuardedRoute, ServicesDep, needs
from api.http.problem_details import problems
from api.yard.views import NodeView, node_json
from schemas.access import Permission, Principal
from schemas.node import Node
from schemas.states import NodeStatus

router = APIRouter(prefix="/yard/v1/nodes", tags=["nodes"], route_class=GuardedRoute)

Viewer = Annotated[Principal, needs(Permission.NODE_VIEW)]
Operator = Annotated[Principal, needs(Permission.NODE_WRITE)]
Stopper = Annotated[Principal, needs(Permission.CONTAINER_STOP)]
"""Which the token of a node is not: a host must not put away another one."""


@router.get("", responses={200: {"model": PageView[NodeView]}, **problems(422, 503)})  # type: ignore[valid-type]
async def list_nodes(
    request: Request,
    caller: Viewer,
    yard: ServicesDep,
    limit: Limit = 50,
    cursor: Cursor = None,
    status: Annotated[NodeStatus | None, Query(description="Only this status.")] = None,
    name: Annotated[str | None, Query(description="Only this name.", max_length=255)] = None,
) -> Response:
    """The machines of the installation, with their GPUs and which of them are in use."""
    page = await yard.placement.nodes.list(
        caller, limit=limit, cursor=cursor, status=status, name=name
    )
    return page_response(page, node_json, request=request, caller=caller)


@router.get("/find", responses={200: {"model": NodeView}, **problems(404, 422, 503)})
async def find_node(caller: Viewer, yard: ServicesDep, called: Called) -> Response:
    """The machine of this uuid, or beginning of one, or name."""
    node = await yard.placement.nodes.find(caller, called)
    return Response(node_json(node, caller), media_type=JSON)


@router.get("/{uuid}", responses={200: {"model": NodeView}, **problems(404, 503)})
async def get_node(uuid: str, caller: Viewer, yard: ServicesDep) -> Response:
    """One machine: its engine, platform, capacity, GPUs and last heartbeat.

    It has no ETag: heartbeats change it without a new revision.
    """
    return _shown(await yard.placement.nodes.get(caller, uuid), caller)


@router.post("/{uuid}/cordon", responses={200: {"model": NodeView}, **problems(404, 503)})
async def cordon_node(uuid: str, caller: Operator, _: Stopper, yard: ServicesDep) -> Response:
    """Place nothing new on a machine; what is there goes on. A repeat does nothing."""
    return _shown(await yard.placement.nodes.cordon(caller, uuid), caller)


@router.post("/{uuid}/uncordon", responses={200: {"model": NodeView}, **problems(404, 503)})
async def uncordon_node(uuid: str, caller: Operator, _: Stopper, yard: ServicesDep) -> Response:
    """Place containers on a machine again, which ends a drain. A repeat does nothing."""
    return _shown(await yard.placement.nodes.cordon(caller, uuid, cordoned=False), caller)


@router.post("/{uuid}/drain", responses={200: {"model": NodeView}, **problems(404, 503)})
async def drain_node(uuid: str, caller: Operator, _: Stopper, yard: ServicesDep) -> Response:
    """Empty a machine: nothing new is placed there, and replicas of deployments move to others.

    A replica ends when another one is ready elsewhere. Other containers stay until their owners end
    them, tests of models until they are over. `drain` says what is left; the event `drained` tells
    that nothing is. A repeat does nothing.
    """
    return _shown(await yard.placement.nodes.drain(caller, uuid), caller)


@router.post("/{uuid}/resume", responses={200: {"model": NodeView}, **problems(404, 503)})
async def resume_node(uuid: str, caller: Operator, _: Stopper, yard: ServicesDep) -> Response:
    """End the drain of a machine: containers are placed there again. A repeat does nothing."""
    return _shown(await yard.placement.nodes.resume(caller, uuid), caller)


@router.delete("/{uuid}", responses={200: {"model": NodeView}, **problems(404, 409, 503)})
async def delete_node(uuid: str, caller: Operator, _: Stopper, yard: ServicesDep) -> Response:
    """Give up a machine that is LOST: it is listed no more, and what waited for it is placed anew.

    While its agent beats the answer is 409. Should the agent come back, the machine joins anew.
    """
    return _shown(await yard.placement.nodes.delete(caller, uuid), caller)


def _shown(node: Node, caller: Principal) -> Response:
    return Response(node_json(node, caller), media_type=JSON)
