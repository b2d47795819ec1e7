"""`/yard/v1/containers`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Request
from starlette.responses import Response

from api.http.answers import (
    Called,
    Cursor,
    IfMatch,
    IfNoneMatch,
    Key,
    Limit,
    PageView,
    Wait,
    changed,
    created,
    expected_revision,
    found,
    page_response,
    waited,
)
from api.http.auth import GuardedRoute, HubDep, ServicesDep, needs
from api.http.problem_details import problems
from api.yard.views import ContainerView, container_json
from pipeline.containers.observation import has_settled
from pipeline.containers.usage import ContainerUse
from pipeline.records.idempotency import id_for, new_id
from schemas.access import Permission, Principal
from schemas.container import Container, ContainerSpec
from schemas.states import ContainerStatus as Status

router = APIRouter(prefix="/yard/v1/containers", tags=["containers"], route_class=GuardedRoute)
stats = APIRouter(prefix="/yard/v1/stats", tags=["containers"], route_class=GuardedRoute)

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
    yard: ServicesDep,
    hub: HubDep,
    key: Key = None,
    wait: Wait = 0,
) -> Response:
    """Run a READY image on a node that fits it. It is recorded at once, then placed and launched.

    With `wait`, the answer waits until the container runs or has come to an end.
    """
    key = key or new_id()
    uuid = id_for(caller.org, Container.resource, key)
    container = await waited(
        hub,
        caller,
        Container,
        uuid,
        ask=partial(yard.containers.service.run, caller, spec, key=key),
        load=partial(yard.containers.service.get, caller, uuid),
        is_settled=lambda container: container.status in LAUNCHED,
        wait_s=min(wait, yard.settings.wait_max_s),
    )
    body = container_json(container, caller)
    return created(container, body, router.prefix, settled=container.status in LAUNCHED)


@router.get("", responses={200: {"model": PageView[ContainerView]}, **problems(422, 503)})  # type: ignore[valid-type]
async def list_containers(
    request: Request,
    caller: Viewer,
    yard: ServicesDep,
    limit: Limit = 50,
    cursor: Cursor = None,
    status: Annotated[Status | None, Query(description="Only this status.")] = None,
    name: Annotated[str | None, Query(description="Only this name.", max_length=255)] = None,
    image: Annotated[str | None, Query(description="Only of this image, by uuid.")] = None,
    node: Annotated[str | None, Query(description="Only on this node, by uuid.")] = None,
    deployment: Annotated[
        str | None, Query(description="Only replicas of this deployment, by uuid.")
    ] = None,
) -> Response:
    """Containers of the organisation, newest first. Deleted ones appear when asked for.

    Values of environment variables show as `***` to callers who may not run containers.
    """
    page = await yard.containers.service.list(
        caller,
        limit=limit,
        cursor=cursor,
        status=status,
        name=name,
        image=image,
        node=node,
        deployment=deployment,
    )
    return page_response(page, container_json, request=request, caller=caller)


@router.get("/find", responses={200: {"model": ContainerView}, **problems(404, 422, 503)})
async def find_container(caller: Viewer, yard: ServicesDep, called: Called) -> Response:
    """The container of this uuid, or beginning of one, or name."""
    container = await yard.containers.service.find(caller, called)
    return found(container, container_json(container, caller), None)


@router.get(
    "/{uuid}",
    responses={
        200: {"model": ContainerView},
        304: {"description": "Unchanged."},
        **problems(404, 503),
    },
)
async def get_container(
    uuid: str, caller: Viewer, yard: ServicesDep, if_none_match: IfNoneMatch = None
) -> Response:
    """One container: where it runs, its ports, its GPUs, and the reason for its state."""
    container = await yard.containers.service.get(caller, uuid)
    return found(container, container_json(container, caller), if_none_match)


@router.post(
    "/{uuid}/replace",
    status_code=202,
    responses={
        201: {"model": ContainerView, "description": "The outcome: in its place, or why not."},
        202: {"model": ContainerView, "description": "Recorded; it is made beside the other one."},
        **problems(400, 404, 409, 412, 413, 415, 422, 503),
    },
)
async def replace_container(
    uuid: str,
    spec: Annotated[ContainerSpec, Body(openapi_examples=_EXAMPLES)],
    caller: Runner,
    yard: ServicesDep,
    hub: HubDep,
    key: Key = None,
    if_match: IfMatch = None,
    wait: Wait = 0,
) -> Response:
    """Have a new container take the place of this one, on its node and, unless it has another name,
    by its name. It is made beside it; once it runs, and is healthy where it has a health check, the
    old one goes. Whatever fails leaves the old one as it was, and nothing of the new one.

    What both need at once (a host port, a GPU, a volume) the old one gives up just before the new
    one starts. The answer is the new container.
    """
    service, finder = yard.containers.service, yard.containers.finder
    key = key or new_id()
    new = id_for(caller.org, Container.resource, key)
    revision = await expected_revision(if_match, partial(service.get, caller, uuid))

    async def load() -> Container:
        seen = await finder.recall(caller, new)
        return seen or await service.get(caller, new)

    container = await waited(
        hub,
        caller,
        Container,
        new,
        ask=partial(service.replace, caller, uuid, spec, key=key, revision=revision),
        load=load,
        is_settled=has_settled,
        wait_s=min(wait, yard.settings.wait_max_s),
    )
    body = container_json(container, caller)
    return created(container, body, router.prefix, settled=has_settled(container))


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody asks of a container, if it is the one he saw; how long he waits for it."""

    uuid: str
    yard: ServicesDep
    hub: HubDep
    if_match: IfMatch = None
    wait: Wait = 0

    async def answer(
        self,
        order: Callable[..., Awaitable[Container]],
        caller: Principal,
        is_done: Callable[[Container], bool],
    ) -> Response:
        """That of `order` as it is once it is done, or the time is over."""
        load = partial(self.yard.containers.service.get, caller, self.uuid)
        revision = await expected_revision(self.if_match, load)

        async def ask() -> Container:
            asked = await order(caller, self.uuid, revision=revision)
            if asked.status is Status.DELETED and is_done is not _is_deleted:
                return await load()  # it raises: nobody sees a deleted one
            return asked

        container = await waited(
            self.hub,
            caller,
            Container,
            self.uuid,
            ask=ask,
            load=load,
            is_settled=is_done,
            wait_s=min(self.wait, self.yard.settings.wait_max_s),
        )
        return changed(container, container_json(container, caller), settled=is_done(container))


def _answers(done: str, under_way: str) -> dict[int | str, dict[str, Any]]:
    return {
        200: {"model": ContainerView, "description": done},
        202: {"model": ContainerView, "description": under_way},
        **problems(404, 409, 412, 422, 503),
    }


@router.post("/{uuid}/stop", responses=_answers("It is stopped.", "Its node was told to stop it."))
async def stop_container(caller: Stopper, asked: Annotated[Asked, Depends()]) -> Response:
    """Stop a container and keep it. It is not restarted. A repeat does nothing."""
    return await asked.answer(asked.yard.containers.service.stop, caller, _is_stopped)


@router.post(
    "/{uuid}/start", responses=_answers("It runs, or will not.", "It is being placed and launched.")
)
async def start_container(caller: Runner, asked: Annotated[Asked, Depends()]) -> Response:
    """Run a container again that has stopped, failed or lost its node. A repeat does nothing."""
    return await asked.answer(asked.yard.containers.service.start, caller, _is_up)


@router.post(
    "/{uuid}/restart",
    responses=_answers("It runs, or will not.", "Its node was told to restart it."),
)
async def restart_container(caller: Runner, asked: Annotated[Asked, Depends()]) -> Response:
    """Stop a container and start it again on its node; start one that has stopped or failed."""
    return await asked.answer(asked.yard.containers.service.restart, caller, _is_up)


@router.delete(
    "/{uuid}",
    responses=_answers("It is gone and its GPUs are free.", "Its node was told to remove it."),
)
async def delete_container(
    caller: Stopper,
    asked: Annotated[Asked, Depends()],
    volumes: Annotated[bool, Query(description="With its volumes, for good.")] = False,
) -> Response:
    """Stop and remove a container, whatever its state. A repeat does nothing.

    What it kept in its volumes waits for the next one of its name; with `volumes` it ends, too.
    """
    delete = partial(asked.yard.containers.service.delete, volumes=volumes)
    return await asked.answer(delete, caller, _is_deleted)


def _is_up(container: Container) -> bool:
    """It runs since the last time that it was asked to, or it will not."""
    return container.status in LAUNCHED and container.restart_at is None


def _is_stopped(container: Container) -> bool:
    return container.status in ENDED


def _is_deleted(container: Container) -> bool:
    return container.status is Status.DELETED


@stats.get("", responses={200: {"model": PageView[ContainerUse]}, **problems(422, 503)})
async def list_stats(
    request: Request, caller: Viewer, yard: ServicesDep, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """CPUs, memory, network and GPUs that the containers use which run; newest first.

    Agents measure every few seconds (`age_s`); what is `null` was not measured yet.
    """
    page = await yard.containers.usage.list(caller, limit=limit, cursor=cursor)
    return page_response(page, _use_json, request=request, caller=caller)


@router.get("/{uuid}/stats", responses={200: {"model": ContainerUse}, **problems(404, 409, 503)})
async def get_stats(uuid: str, caller: Viewer, yard: ServicesDep) -> ContainerUse:
    """What one container uses; what is `null` was not measured yet."""
    return await yard.containers.usage.get(caller, uuid)


def _use_json(use: ContainerUse, caller: Principal) -> bytes:
    return use.model_dump_json().encode()
