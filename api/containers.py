"""`/yard/v1/containers`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Body, Query, Request
from starlette.responses import Response

from api.answers import changed, created, found, problems
from api.auth import GuardedRoute, needs
from api.conditional import IfMatch, IfNoneMatch, expected_revision
from api.deps import Hub, Yard
from api.idempotency import Key
from api.paging import Cursor, Limit, PageView, page_response
from api.views import ContainerView, container_json
from api.waiting import Wait, outcome
from pipeline.core import records
from pipeline.core.event_hub import EventHub
from pipeline.services import Services
from schemas.access import Permission, Principal
from schemas.container import Container, ContainerSpec
from schemas.states import ContainerStatus as Status

router = APIRouter(prefix="/yard/v1/containers", tags=["containers"], route_class=GuardedRoute)

Viewer = Annotated[Principal, needs(Permission.CONTAINER_VIEW)]
Runner = Annotated[Principal, needs(Permission.CONTAINER_RUN)]
Stopper = Annotated[Principal, needs(Permission.CONTAINER_STOP)]

ENDED = frozenset({Status.STOPPED, Status.FAILED, Status.DELETED})
LAUNCHED = ENDED | {Status.RUNNING, Status.UNHEALTHY, Status.LOST}
"""What `wait` waits for after a run: it runs, or it will not without somebody doing something."""

_EXAMPLES = {
    "smallest": {"value": {"image": "classifier"}},
    "with a GPU": {
        "value": {
            "image": "classifier",
            "name": "classifier-1",
            "gpus": 1,
            "env": {"BATCH_SIZE": "8"},
            "ports": [{"internal": 8080}],
            "health": {"port": 8080, "path": "/status"},
        }
    },
}


@router.post(
    "",
    status_code=202,
    responses={
        201: {"model": ContainerView, "description": "The outcome: RUNNING, or why not."},
        202: {"model": ContainerView, "description": "Recorded; it is being placed and launched."},
        **problems(400, 404, 409, 413, 415, 422, 503),
    },
)
async def run_container(
    spec: Annotated[ContainerSpec, Body(openapi_examples=_EXAMPLES)],
    caller: Runner,
    yard: Yard,
    hub: Hub,
    key: Key = None,
    wait: Wait = 0,
) -> Response:
    """Run a READY image on a node that fits it. It is recorded at once, then placed and launched.

    With `wait`, the answer waits until the container runs or has come to an end.
    """
    if not wait:
        container = await yard.containers.run(caller, spec, key=key)
        return _created(container, caller, replayed=container.replayed)
    key = key or records.new_id()
    uuid = records.id_for(caller.org, Container.resource, key)
    with hub.watch(caller.org, Container.resource, uuid) as watch:
        asked = await yard.containers.run(caller, spec, key=key)
        container = await outcome(
            watch,
            asked,
            load=partial(yard.containers.get, caller, uuid),
            is_settled=lambda container: container.status in LAUNCHED,
            wait_s=min(wait, yard.settings.wait_max_s),
        )
    return _created(container, caller, replayed=asked.replayed)


@router.get("", responses={200: {"model": PageView[ContainerView]}, **problems(422, 503)})  # type: ignore[valid-type]
async def list_containers(
    request: Request,
    caller: Viewer,
    yard: Yard,
    limit: Limit = 50,
    cursor: Cursor = None,
    status: Annotated[Status | None, Query(description="Only this status.")] = None,
    name: Annotated[str | None, Query(description="Only this name.", max_length=255)] = None,
    image: Annotated[str | None, Query(description="Only of this image, by uuid.")] = None,
    node: Annotated[str | None, Query(description="Only on this node, by uuid.")] = None,
) -> Response:
    """Containers of the organisation, newest first. Deleted ones appear when asked for.

    Values of environment variables show as `***` to callers who may not run containers.
    """
    page = await yard.containers.list(
        caller, limit=limit, cursor=cursor, status=status, name=name, image=image, node=node
    )
    return page_response(page, container_json, request=request, caller=caller)


@router.get(
    "/{uuid}",
    responses={
        200: {"model": ContainerView},
        304: {"description": "Unchanged."},
        **problems(404, 503),
    },
)
async def get_container(
    uuid: str, caller: Viewer, yard: Yard, if_none_match: IfNoneMatch = None
) -> Response:
    """One container: where it runs, its ports, its GPUs, and the reason for its state."""
    container = await yard.containers.get(caller, uuid)
    return found(container, container_json(container, caller), if_none_match)


@router.post(
    "/{uuid}/stop",
    responses={
        200: {"model": ContainerView, "description": "It is stopped."},
        202: {"model": ContainerView, "description": "Its node was told to stop it."},
        **problems(404, 409, 412, 422, 503),
    },
)
async def stop_container(
    uuid: str, caller: Stopper, yard: Yard, hub: Hub, if_match: IfMatch = None, wait: Wait = 0
) -> Response:
    """Stop a container and keep it. It is not restarted. A repeat does nothing."""
    return await _ask(yard.containers.stop, uuid, caller, yard, hub, if_match, wait)


@router.delete(
    "/{uuid}",
    responses={
        200: {"model": ContainerView, "description": "It is gone and its GPUs are free."},
        202: {"model": ContainerView, "description": "Its node was told to remove it."},
        **problems(404, 409, 412, 422, 503),
    },
)
async def delete_container(
    uuid: str, caller: Stopper, yard: Yard, hub: Hub, if_match: IfMatch = None, wait: Wait = 0
) -> Response:
    """Stop and remove a container, whatever its state. A repeat does nothing."""
    return await _ask(yard.containers.delete, uuid, caller, yard, hub, if_match, wait)


async def _ask(
    order: Callable[..., Awaitable[Container]],
    uuid: str,
    caller: Principal,
    yard: Services,
    hub: EventHub,
    if_match: str | None,
    wait_s: float,
) -> Response:
    load = partial(yard.containers.get, caller, uuid)
    revision = await expected_revision(if_match, load)
    over = {Status.DELETED} if order == yard.containers.delete else ENDED
    with hub.watch(caller.org, Container.resource, uuid) as watch:
        asked = await order(caller, uuid, revision=revision)
        if asked.status is Status.DELETED and order != yard.containers.delete:
            asked = await load()  # it raises: nobody sees a deleted one
        container = await outcome(
            watch,
            asked,
            load=load,
            is_settled=lambda container: container.status in over,
            wait_s=min(wait_s, yard.settings.wait_max_s),
        )
    settled = container.status in over
    return changed(container, container_json(container, caller), settled=settled)


def _created(container: Container, caller: Principal, *, replayed: bool) -> Response:
    return created(
        container,
        container_json(container, caller),
        path=f"{router.prefix}/{container.uuid}",
        settled=container.status in LAUNCHED,
        replayed=replayed,
    )
