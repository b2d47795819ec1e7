"""`/container-svc/container…`: run, stop, list, look at, remove and restart containers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from api.container_svc import views
from api.container_svc.answers import body_of, failures, json_answer, read, unsuccessful
from api.container_svc.logs import LogViewer, last_lines
from api.container_svc.nodes import PREFIX, NodeId, node_of, refuse_foreign
from api.container_svc.run_request import Flag, Part, RunRequest, Text, Whole, require_sound
from api.container_svc.runs import Run
from api.container_svc.waiting import CHANGE_S, RUN_S, Waiting
from api.http.auth import GuardedRoute, HubDep, ServicesDep, needs
from pipeline.bootstrap.control_plane import Services
from pipeline.containers.finding import ContainerSearch
from pipeline.errors import Conflict, InvalidInput, NotFound
from pipeline.events.hub import EventHub
from schemas.access import Permission, Principal
from schemas.container import Container
from schemas.states import ContainerStatus as Status

router = APIRouter(prefix=PREFIX, tags=["container service"], route_class=GuardedRoute)

Viewer = Annotated[Principal, needs(Permission.CONTAINER_VIEW)]
Runner = Annotated[Principal, needs(Permission.CONTAINER_RUN)]
Stopper = Annotated[Principal, needs(Permission.CONTAINER_STOP)]
Hash = Annotated[str, Query(description="Only with this hash.")]
Name = Annotated[str, Query(description="Only with this name or alias.")]
OVER: Final = frozenset({Status.STOPPED, Status.FAILED, Status.DELETED})

_EXAMPLE = {
    "image": "registry.example:5000/team/app:1",
    "names": ["my-web-app"],
    "ports": [{"internal": 80, "host": 8080}],
    "envs": [{"key": "ENV", "value": "production"}],
    "keeps": [{"path": "/data"}],
}


class Started(BaseModel):
    """`bindings` have the protocol and address of each port, too."""

    started: bool
    ports: list[dict[str, int]]
    bindings: list[dict[str, Any]]
    id: str
    nodeId: str
    hash: str


class Listed(BaseModel):
    containers: list[dict[str, Any]]
    nextCursor: str | None = None


class IsRunning(BaseModel):
    isRunning: bool


class Summary(BaseModel):
    status: str
    logs: str
    summary: str


class ListRequest(Part):
    nodeId: Text = ""
    containerId: Text = ""
    name: Text = ""
    hash: Text = ""
    status: Text = ""
    includeRemoved: Flag = False
    limit: Whole = Field(default=100, ge=1, le=1000)
    cursor: Text = ""


class Which(Part):
    id: Text = ""
    name: Text = ""
    nodeId: Text = ""


class Removal(Which):
    removeKeeps: Flag = False


@router.put(
    "/container",
    name="run_container",
    responses={200: {"model": Started}, **failures(400, 404, 409, 422, 502, 504)},
    openapi_extra=body_of(_EXAMPLE),
)
@router.post(
    "/container",
    name="run_container_by_post",
    responses={200: {"model": Started}, **failures(400, 404, 409, 422, 502, 504)},
    openapi_extra=body_of(_EXAMPLE),
)
async def run_container(
    request: Request, caller: Runner, services: ServicesDep, hub: HubDep
) -> Response:
    """Have a container run as it is described. A repeat finds it running and does nothing; another
    description under the same name takes the place of what is there."""
    wanted = await read(request, RunRequest)
    require_sound(wanted)
    node = await node_of(services, caller, wanted.nodeId, must_answer=True)
    waiting = Waiting(services, hub, caller, wait_s=RUN_S)
    return json_answer(await Run(waiting, wanted, node).answer())


@router.put(
    "/container/stop",
    responses={200: {"model": dict[str, Any]}, **failures(400, 404, 409, 504)},
    openapi_extra=body_of({"name": "my-web-app"}),
)
async def stop_container(
    request: Request, caller: Stopper, services: ServicesDep, hub: HubDep
) -> Response:
    """Stop it and keep it. It is not restarted. A repeat does nothing."""
    found = await _named(services, caller, await read(request, Which))
    stop = partial(services.containers.service.stop, caller, found.uuid)
    await _changed(services, hub, caller, found, stop, "stop")
    return json_answer({})


@router.put(
    "/container/remove",
    responses={200: {"model": dict[str, Any]}, **failures(400, 404, 409, 504)},
    openapi_extra=body_of({"name": "my-web-app", "removeKeeps": False}),
)
async def remove_container(
    request: Request, caller: Stopper, services: ServicesDep, hub: HubDep
) -> Response:
    """Stop and remove it, whatever its state. What it kept stays, unless `removeKeeps`."""
    which = await read(request, Removal)
    found = await _named(services, caller, which)
    remove = partial(
        services.containers.service.delete, caller, found.uuid, volumes=which.removeKeeps
    )
    await _changed(services, hub, caller, found, remove, "remove")
    return json_answer({})


@router.put(
    "/container/restart",
    responses={200: {"model": dict[str, Any]}, **failures(400, 404, 409, 422, 504)},
    openapi_extra=body_of({"name": "my-web-app"}),
)
async def restart_container(
    request: Request, caller: Runner, services: ServicesDep, hub: HubDep
) -> Response:
    """Stop it and start it again; start it when it has stopped."""
    found = await _named(services, caller, await read(request, Which))
    restart = partial(services.containers.service.restart, caller, found.uuid)
    seen = await _changed(services, hub, caller, found, restart, "restart")
    if seen.failure is not None:
        raise unsuccessful(seen.failure, seen.reason or "It could not be started.")
    return json_answer({})


@router.post(
    "/containers",
    responses={200: {"model": Listed}, **failures(400, 404)},
    openapi_extra=body_of({"limit": 100}),
)
async def list_containers(request: Request, caller: Viewer, services: ServicesDep) -> Response:
    """Newest first. Removed ones appear with `includeRemoved`."""
    wanted = await read(request, ListRequest)
    node = await node_of(services, caller, wanted.nodeId)
    statuses = _statuses(wanted)
    search = ContainerSearch(
        node="" if node is None else node.uuid,
        engine_id=wanted.containerId,
        names=[wanted.name] if wanted.name else [],
        spec_hash=wanted.hash or None,
        statuses=statuses,
    )
    page = await services.containers.finder.search(
        caller, search, limit=wanted.limit, cursor=wanted.cursor or None
    )
    body: dict[str, Any] = {"containers": [views.container_view(c, caller) for c in page.items]}
    return json_answer(body | ({"nextCursor": page.next} if page.next else {}))


@router.get("/container/is-running", responses={200: {"model": IsRunning}, **failures(400, 404)})
async def is_running(
    caller: Viewer, services: ServicesDep, hash: Hash = "", name: Name = "", nodeId: NodeId = ""
) -> Response:
    """Whether one with this hash, this name, or both runs."""
    found = await find(services, caller, hash, name, nodeId)
    return json_answer({"isRunning": any(each.status in views.RUNNING for each in found)})


@router.get("/container/summary", responses={200: {"model": Summary}, **failures(400, 404)})
async def get_container_summary(
    caller: Viewer,
    reader: LogViewer,
    services: ServicesDep,
    hash: Hash = "",
    name: Name = "",
    lines: Annotated[int, Query(ge=1, le=10_000, description="Last lines of output.")] = 100,
    nodeId: NodeId = "",
) -> Response:
    """How a container is, and the last that it wrote, as text."""
    found = await find(services, caller, hash, name, nodeId)
    if not found:
        raise NotFound(f"There is no container {name or hash}.")
    status = views.status_text(found[0])
    logs = await last_lines(services, reader, found[0], lines)
    return json_answer({"status": status, "logs": logs, "summary": f"{status}\n\n{logs}"})


async def find(
    services: Services, caller: Principal, hash: str, name: str, node_id: str
) -> Sequence[Container]:
    """Those that run come first. Raises InvalidInput when neither is given, NotFound for a node."""
    if not hash and not name:
        raise InvalidInput("Give hash or name.", field="hash")
    node = await node_of(services, caller, node_id)
    search = ContainerSearch(
        node="" if node is None else node.uuid, names=[name] if name else [], spec_hash=hash or None
    )
    page = await services.containers.finder.search(caller, search, limit=1000)
    return sorted(page.items, key=lambda each: each.status not in views.RUNNING)


async def _named(services: Services, caller: Principal, which: Which) -> Container:
    """The one that a change is asked of. Raises InvalidInput, NotFound, Conflict for several."""
    if not which.id and not which.name:
        raise InvalidInput("Give id or name.", field="id")
    node = await node_of(services, caller, which.nodeId, must_answer=True)
    search = ContainerSearch(
        node="" if node is None else node.uuid,
        engine_id=which.id,
        names=[] if which.id else [which.name],
    )
    page = await services.containers.finder.search(caller, search, limit=2)
    # One that is to replace another counts once that is gone.
    found = [each for each in page.items if each.replaces is None] or page.items
    if not found:
        await refuse_foreign(services, node, which.id or which.name)
        raise NotFound(f"There is no container {which.id or which.name}.")
    if len(found) > 1:
        raise Conflict(f"Several containers are called {which.name}: give the id of one.")
    return found[0]


async def _changed(
    services: Services,
    hub: EventHub,
    caller: Principal,
    found: Container,
    ask: Callable[[], Awaitable[Container]],
    kind: str,
) -> Container:
    """As it is once that is done. Raises Timeout."""

    async def load() -> Container:
        seen = await services.containers.finder.recall(caller, found.uuid)
        return found if seen is None else seen

    waiting, is_done = Waiting(services, hub, caller, wait_s=CHANGE_S), DONE[kind]
    seen = await waiting.settled(Container, found.uuid, ask=ask, load=load, is_settled=is_done)
    if not is_done(seen):
        raise waiting.over(kind, found.uuid)
    return seen


def _is_up(container: Container) -> bool:
    """It runs, in place of whatever it replaces, or will not."""
    is_launched = container.status in OVER or container.status in views.RUNNING
    return is_launched and container.restart_at is None and container.replaces is None


DONE: Final[dict[str, Callable[[Container], bool]]] = {
    "run": _is_up,
    "stop": lambda container: container.status in OVER,
    "remove": lambda container: container.status is Status.DELETED,
    "restart": _is_up,
}
"""When what was asked for is done."""


def _statuses(wanted: ListRequest) -> list[Status]:
    known: dict[str, list[Status]] = {"dead": [Status.FAILED], "paused": []}
    for status, text in views.STATUSES.items():
        known.setdefault(text, []).append(status)
    if wanted.status and wanted.status not in known:
        raise InvalidInput(f"status is one of {', '.join(sorted(known))}.", field="status")
    if wanted.status:
        return known[wanted.status]
    return list(Status) if wanted.includeRemoved else []
