"""`/yard/v1/deployments`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Request
from pydantic import Field
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
from api.yard.views import DeploymentView, deployment_json
from pipeline.bootstrap.control_plane import Services
from pipeline.errors import NotFound
from pipeline.records.idempotency import id_for, new_id
from schemas.access import Permission, Principal
from schemas.base import Shape
from schemas.deployment import MAX_REPLICAS, Deployment, DeploymentEdit, DeploymentSpec, ScalingLook
from schemas.states import DeploymentStatus as Status

router = APIRouter(prefix="/yard/v1/deployments", tags=["deployments"], route_class=GuardedRoute)

Viewer = Annotated[Principal, needs(Permission.DEPLOYMENT_VIEW)]
Writer = Annotated[Principal, needs(Permission.DEPLOYMENT_WRITE)]

SETTLED = frozenset({Status.DEPLOYED, Status.FAILED, Status.SCALED_DOWN, Status.DELETED})

_EXAMPLES = {
    "two replicas": {
        "value": {
            "name": "classifier",
            "template": {"image": "classifier", "gpus": 1, "health": {"port": 8080}},
            "min_replicas": 2,
            "max_replicas": 4,
        }
    }
}
_EDIT_EXAMPLES = {
    "another image": {"value": {"template": {"image": "classifier:2", "gpus": 1}}},
    "more replicas": {"value": {"min_replicas": 3, "max_replicas": 6}},
    "as many as are needed": {
        "value": {
            "max_replicas": 6,
            "autoscale": {"targets": [{"metric": "concurrency", "value": 4}]},
        }
    },
}


class Scale(Shape):
    """How many replicas are wanted now."""

    replicas: int = Field(ge=0, le=MAX_REPLICAS, examples=[3])


class Rollback(Shape):
    """Which template is wanted again."""

    generation: int | None = Field(default=None, ge=1, examples=[2])
    """None is the one before."""


_CHANGED: dict[int | str, dict[str, Any]] = {
    200: {"model": DeploymentView, "description": "It is as was asked, or will not be."},
    202: {"model": DeploymentView, "description": "Recorded; its replicas follow."},
}


@router.post(
    "",
    status_code=202,
    responses={
        201: {"model": DeploymentView, "description": "The outcome: DEPLOYED, or why not."},
        202: {"model": DeploymentView, "description": "Recorded; its replicas are made."},
        **problems(400, 404, 409, 413, 415, 422, 503),
    },
)
async def create_deployment(
    spec: Annotated[DeploymentSpec, Body(openapi_examples=_EXAMPLES)],
    caller: Writer,
    yard: ServicesDep,
    hub: HubDep,
    key: Key = None,
    wait: Wait = 0,
) -> Response:
    """Keep replicas of a READY image answering: what ends is replaced, an edit rolls.

    With `wait`, the answer waits until all replicas are ready or that has failed.
    """
    key = key or new_id()
    uuid = id_for(caller.org, Deployment.resource, key)
    deployment = await waited(
        hub,
        caller,
        Deployment,
        uuid,
        ask=partial(yard.deployments.service.create, caller, spec, key=key),
        load=partial(yard.deployments.service.get, caller, uuid),
        is_settled=_is_settled,
        wait_s=min(wait, yard.settings.wait_max_s),
    )
    body = _shown(yard)(deployment, caller)
    return created(deployment, body, router.prefix, settled=_is_settled(deployment))


@router.get("", responses={200: {"model": PageView[DeploymentView]}, **problems(422, 503)})  # type: ignore[valid-type]
async def list_deployments(
    request: Request,
    caller: Viewer,
    yard: ServicesDep,
    limit: Limit = 50,
    cursor: Cursor = None,
    status: Annotated[Status | None, Query(description="Only this status.")] = None,
    name: Annotated[str | None, Query(description="Only this name.", max_length=255)] = None,
) -> Response:
    """Deployments of the organisation, newest first. Deleted ones appear when asked for."""
    page = await yard.deployments.service.list(
        caller, limit=limit, cursor=cursor, status=status, name=name
    )
    return page_response(page, _shown(yard), request=request, caller=caller)


@router.get("/find", responses={200: {"model": DeploymentView}, **problems(404, 422, 503)})
async def find_deployment(caller: Viewer, yard: ServicesDep, called: Called) -> Response:
    """The deployment of this uuid, or beginning of one, or name."""
    deployment = await yard.deployments.service.find(caller, called)
    return found(deployment, _shown(yard)(deployment, caller), None)


@router.get(
    "/{uuid}",
    responses={
        200: {"model": DeploymentView},
        304: {"description": "Unchanged."},
        **problems(404, 503),
    },
)
async def get_deployment(
    uuid: str, caller: Viewer, yard: ServicesDep, if_none_match: IfNoneMatch = None
) -> Response:
    """One deployment: its template and earlier ones, how many replicas are ready, and why not."""
    deployment = await yard.deployments.service.get(caller, uuid)
    return found(deployment, _shown(yard)(deployment, caller), if_none_match)


@router.get("/{uuid}/scaling", responses={200: {"model": ScalingLook}, **problems(404, 503)})
async def get_scaling(uuid: str, caller: Viewer, yard: ServicesDep) -> Response:
    """What autoscaling sees at this moment, what each target alone wants, and what comes of it
    before windows and steps. 404 for a deployment without a rule."""
    deployment = await yard.deployments.service.get(caller, uuid)
    look = await yard.deployments.autoscaler.look(deployment)
    if look is None:
        raise NotFound(f"The deployment {deployment.name} is not scaled automatically.")
    return Response(look.model_dump_json(), media_type="application/json")


Order = Callable[..., Awaitable[Deployment]]


class _Asking:
    """What every change of a deployment takes besides its own order."""

    def __init__(
        self,
        uuid: str,
        caller: Writer,
        yard: ServicesDep,
        hub: HubDep,
        if_match: IfMatch = None,
        wait: Wait = 0,
    ) -> None:
        self._uuid = uuid
        self._caller = caller
        self.service = yard.deployments.service
        self._shown = _shown(yard)
        self._hub = hub
        self._if_match = if_match
        self._wait_s = min(wait, yard.settings.wait_max_s)

    async def answer(self, order: Order, *given: object) -> Response:
        """The record when it is settled, or as it is when the wait is over."""
        load = partial(self.service.get, self._caller, self._uuid)
        revision = await expected_revision(self._if_match, load)
        deployment = await waited(
            self._hub,
            self._caller,
            Deployment,
            self._uuid,
            ask=partial(order, self._caller, self._uuid, *given, revision=revision),
            load=load,
            is_settled=_is_settled,
            wait_s=self._wait_s,
        )
        body = self._shown(deployment, self._caller)
        return changed(deployment, body, settled=_is_settled(deployment))


Asking = Annotated[_Asking, Depends()]


@router.patch("/{uuid}", responses={**_CHANGED, **problems(400, 404, 409, 412, 413, 415, 422, 503)})
async def edit_deployment(
    edit: Annotated[DeploymentEdit, Body(openapi_examples=_EDIT_EXAMPLES)], asking: Asking
) -> Response:
    """Change what is given. Another template rolls out: a new replica is ready before an old one
    ends, and the last good template returns when the new one does not become ready in time.
    """
    return await asking.answer(asking.service.edit, edit)


@router.post(
    "/{uuid}/scale", responses={**_CHANGED, **problems(400, 404, 409, 412, 413, 415, 422, 503)}
)
async def scale_deployment(scale: Scale, asking: Asking) -> Response:
    """Want so many replicas now, within `min_replicas` and `max_replicas`."""
    return await asking.answer(asking.service.scale, scale.replicas)


@router.post("/{uuid}/start", responses={**_CHANGED, **problems(404, 409, 412, 422, 503)})
async def start_deployment(asking: Asking) -> Response:
    """Want its replicas again. A repeat does nothing."""
    return await asking.answer(asking.service.start)


@router.post("/{uuid}/stop", responses={**_CHANGED, **problems(404, 409, 412, 422, 503)})
async def stop_deployment(asking: Asking) -> Response:
    """Want no replicas until it is started. A repeat does nothing."""
    return await asking.answer(asking.service.stop)


@router.post("/{uuid}/restart", responses={**_CHANGED, **problems(404, 409, 412, 422, 503)})
async def restart_deployment(asking: Asking) -> Response:
    """Make all replicas anew, one after the other."""
    return await asking.answer(asking.service.restart)


@router.post(
    "/{uuid}/rollback", responses={**_CHANGED, **problems(400, 404, 409, 412, 413, 415, 422, 503)}
)
async def roll_back_deployment(rollback: Rollback, asking: Asking) -> Response:
    """Return to an earlier template, which rolls out like an edit."""
    return await asking.answer(asking.service.roll_back, rollback.generation)


@router.delete("/{uuid}", responses={**_CHANGED, **problems(404, 409, 412, 422, 503)})
async def delete_deployment(asking: Asking) -> Response:
    """End its replicas, then the deployment. A repeat does nothing."""
    return await asking.answer(asking.service.delete)


def _shown(yard: Services) -> Callable[[Deployment, Principal], bytes]:
    return partial(deployment_json, gateway=yard.settings.gateway_url)


def _is_settled(deployment: Deployment) -> bool:
    """It is as was asked, or will not be; nothing that it no longer needs is left."""
    is_ending = deployment.status is Status.SCALED_DOWN and deployment.reason is not None
    return deployment.status in SETTLED and not is_ending
