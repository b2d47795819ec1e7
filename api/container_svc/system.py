"""`/container-svc`: engines and nodes, images that can be had, what became of operations."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote_to_bytes

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from api.container_svc import builds
from api.container_svc.answers import failures, json_answer
from api.container_svc.containers import DONE, Viewer
from api.container_svc.nodes import PREFIX, NodeId, known_nodes, node_of
from api.http.auth import GuardedRoute, ServicesDep
from pipeline.bootstrap.control_plane import Services
from pipeline.errors import (
    AddressRefused,
    EngineUnavailable,
    InvalidInput,
    MalformedRequest,
    NotFound,
    RegistryUnavailable,
)
from schemas.access import Principal
from schemas.container import Container
from schemas.node import Node
from schemas.states import BuildStatus, ContainerStatus, NodeStatus

router = APIRouter(prefix=PREFIX, tags=["container service"], route_class=GuardedRoute)

_OPERATION = re.compile(r"(run|stop|remove|restart|build)-([0-9a-f-]{36})")
_BROKEN = re.compile(r"%(?![0-9A-Fa-f]{2})")


class DaemonInfo(BaseModel):
    available: bool
    address: str | None = None
    error: str | None = None


class Host(BaseModel):
    host: str


class Pullable(BaseModel):
    pullable: bool


class Operation(BaseModel):
    id: str
    kind: str
    status: str
    result: dict[str, Any] | None = None
    error: str | None = None


@router.get("/daemon/info", responses={200: {"model": DaemonInfo}, **failures(404)})
async def get_daemon_info(caller: Viewer, services: ServicesDep, nodeId: NodeId = "") -> Response:
    """Whether the engine of this node, or any engine, answers; `error` names those that do not."""
    node = await node_of(services, caller, nodeId)
    nodes = await known_nodes(services) if node is None else [node]
    ready = [each for each in nodes if each.status is NodeStatus.READY]
    told = [f"{each.name}: {_why(each)}" for each in nodes if each not in ready]
    if not nodes:
        told = ["There is no node yet."]
    body: dict[str, Any] = {"available": bool(ready)}
    if ready:
        body["address"] = ready[0].address
    return json_answer(body | ({"error": "; ".join(told)} if told else {}))


def _why(node: Node) -> str:
    return f"{node.status}, {node.reason}" if node.reason else str(node.status)


@router.get("/host", responses={200: {"model": Host}, **failures(404)})
async def get_host(caller: Viewer, services: ServicesDep, nodeId: NodeId = "") -> Response:
    """Where published ports of this node, or of the first one that is ready, are reached."""
    node = await node_of(services, caller, nodeId)
    if node is None:
        ready = [e for e in await known_nodes(services) if e.status is NodeStatus.READY]
        if not ready:
            raise EngineUnavailable("No node is ready.")
        node = ready[0]
    return json_answer({"host": node.address or services.settings.container_bind})


@router.get(
    "/image/{imageName:path}/pullable", responses={200: {"model": Pullable}, **failures(400, 502)}
)
async def is_image_pullable(
    request: Request, imageName: str, caller: Viewer, services: ServicesDep
) -> Response:
    """Whether a node could pull it. The name is one segment, percent-encoded; plain slashes are
    understood, too."""
    name = _decoded(request)
    try:
        known = await services.images.service.find(caller, name)
    except (NotFound, InvalidInput):
        known = None
    reference = name if known is None else known.pinned or known.reference
    try:
        found = await services.images.lookup.is_pullable(caller, reference)
    except AddressRefused as error:
        raise RegistryUnavailable(error.message) from error
    return json_answer({"pullable": found})


def _decoded(request: Request) -> str:
    """Once, from the path as it was sent. Raises MalformedRequest."""
    raw: bytes = request.scope["raw_path"].partition(b"?")[0]
    segment = raw.removeprefix(f"{PREFIX}/image/".encode()).removesuffix(b"/pullable")
    try:
        if _BROKEN.search(segment.decode("ascii")):
            raise ValueError("no escape")
        return unquote_to_bytes(segment).decode()
    except ValueError as error:
        raise MalformedRequest("The name of the image is not percent-encoded UTF-8.") from error


@router.get("/operations/{operationId}", responses={200: {"model": Operation}, **failures(404)})
async def get_operation(operationId: str, caller: Viewer, services: ServicesDep) -> Response:
    """What became of what took longer than its answer could wait."""
    if parts := _OPERATION.fullmatch(operationId):
        kind, uuid = parts.groups()
        if kind == builds.KIND:
            return json_answer(
                {"id": operationId, "kind": kind} | await _build(services, caller, uuid)
            )
        if found := await services.containers.finder.recall(caller, uuid):
            return json_answer(_operation(operationId, kind, found))
    raise NotFound(f"There is no operation {operationId[:255]}.")


async def _build(services: Services, caller: Principal, uuid: str) -> dict[str, Any]:
    build = await services.builds.service.get(caller, uuid)
    if build.status is BuildStatus.FAILED:
        return {"status": "failed", "error": builds.failure_of(build).message}
    if build.status is not BuildStatus.DONE:
        return {"status": "running"}
    return {"status": "succeeded", "result": {"image": build.name}}


def _operation(id: str, kind: str, container: Container) -> dict[str, Any]:
    body: dict[str, Any] = {"id": id, "kind": kind}
    is_over = container.status is ContainerStatus.DELETED and kind != "remove"
    if container.failure is not None or is_over:
        return body | {"status": "failed", "error": container.reason or "It was removed."}
    if not DONE[kind](container):
        return body | {"status": "running"}
    return body | {"status": "succeeded", "result": {"id": container.engine_id or ""}}
