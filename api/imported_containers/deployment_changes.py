"""Changes of deployments: edited, scaled, started, stopped, restarted, deleted."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from api.http.answers import waited
from api.http.auth import GuardedRoute, HubDep, ServicesDep
from api.imported_containers.answers import json_answer, missing, own_org, read_object, refused
from api.imported_containers.autoscale_config import KEYS, AutoscaleConfig
from api.imported_containers.deployment_drafts import DeploymentDraft
from api.imported_containers.deployment_views import FullObject, asked
from api.imported_containers.deployments import (
    GONE,
    PREFIX,
    Writer,
    answered,
    body_of,
    find,
    full_object,
    is_ending,
    recalled,
    refusals,
    require_alive,
    require_groups,
    require_possible,
    unknown,
)
from api.imported_containers.fields import Fields, kept
from pipeline.bootstrap.control_plane import Services
from pipeline.errors import Overloaded, StaleRevision
from pipeline.records.kernel import ATTEMPTS
from schemas.access import Principal
from schemas.deployment import MAX_REPLICAS, Deployment, DeploymentEdit
from schemas.image import CLIENTS_OWN
from schemas.states import DeploymentStatus as Status


class Done(BaseModel):
    message: str


class Updated(Done):
    update_result: str


class Scaled(Done):
    min_replicas: int
    max_replicas: int


router = APIRouter(prefix=PREFIX, tags=["imported containers"], route_class=GuardedRoute)

_CHANGED: Final = refusals(400, 404, 413)
_UNKNOWN: Final[Mapping[str, Any]] = {"min_pod_replicas": 1, "max_pod_replicas": 1}
"""What an edit of no deployment begins with: what is wrong with its own fields is told first."""


@router.post(
    "/{deployment_id}/edit",
    responses={200: {"model": FullObject}, **_CHANGED},
    openapi_extra=body_of({"env_variables": {"MAX_BATCH_SIZE": 32}}),
)
async def edit_deployment(
    request: Request, deployment_id: str, caller: Writer, services: ServicesDep
) -> Response:
    """Change what is given. What replicas are made of rolls out: a new one is ready before an old
    one ends."""
    body = await read_object(request)
    org = await own_org(services, caller, body, request.query_params)
    edited = await _until_written(partial(_edit, caller, services, deployment_id, body))
    return json_answer((await full_object(services, caller, org, edited)).model_dump())


async def _edit(
    caller: Principal, services: Services, deployment_id: str, body: Mapping[str, Any]
) -> Deployment:
    """Raises StaleRevision."""
    found = await recalled(services, caller, deployment_id)
    image, before = None, _UNKNOWN
    if found is not None:
        image = await services.images.service.recall(caller, found.template.spec.image)
        before = asked(found, image)
    draft = DeploymentDraft(body, is_byoc=bool(before.get("nodegroups")), before=before)
    if found is None:
        raise unknown()
    if "nodegroups" in body:
        await require_groups(services, draft)
    require_alive(found)
    if image is None:
        raise refused({"detail": GONE})
    edit = draft.edit(image, found.template.spec)
    if edit.template is not None:
        await require_possible(services, draft, image)
    with answered():
        return await services.deployments.service.edit(
            caller, found.uuid, edit, revision=found.revision, own=draft.own(image)
        )


@router.post(
    "/{deployment_id}/startstop/",
    responses={200: {"model": Updated}, **_CHANGED},
    openapi_extra=body_of({"action": "stop"}),
)
async def start_or_stop(
    request: Request, deployment_id: str, caller: Writer, services: ServicesDep
) -> Response:
    """Want its replicas again, or none until it is started. A repeat does nothing."""
    service = services.deployments.service
    orders = {"start": (service.start, "started"), "stop": (service.stop, "stopped")}
    return await _order(request, caller, services, deployment_id, orders)


@router.post(
    "/{deployment_id}/restart/",
    responses={200: {"model": Updated}, **_CHANGED},
    openapi_extra=body_of({"action": "restart", "namespace": "default"}),
)
async def restart_deployment(
    request: Request, deployment_id: str, caller: Writer, services: ServicesDep
) -> Response:
    """Make all replicas anew, one after the other."""
    orders = {"restart": (services.deployments.service.restart, "restarted")}
    return await _order(request, caller, services, deployment_id, orders)


@router.post(
    "/{deployment_id}/update-replicas/",
    responses={200: {"model": Scaled}, **_CHANGED},
    openapi_extra=body_of({"min_replicas": 1, "max_replicas": 3}),
)
async def update_replicas(
    request: Request, deployment_id: str, caller: Writer, services: ServicesDep
) -> Response:
    """Change how many replicas there may be, and by what rule their number moves."""
    body = await read_object(request)
    await own_org(services, caller, body, request.query_params)
    edited = await _until_written(partial(_update, caller, services, deployment_id, body))
    return json_answer(
        {
            "message": "Autoscaling configuration updated successfully",
            "min_replicas": edited.min_replicas,
            "max_replicas": edited.max_replicas,
        }
    )


async def _update(
    caller: Principal, services: Services, deployment_id: str, body: Mapping[str, Any]
) -> Deployment:
    """Raises StaleRevision."""
    fields = Fields(body)
    low = fields.integer("min_replicas", most=MAX_REPLICAS)
    high = fields.integer("max_replicas", least=1, most=MAX_REPLICAS)
    if not fields.wrong and high < low:
        fields.refuse("max_replicas", "It must not be less than min_replicas.")
    found = await recalled(services, caller, deployment_id)
    before = asked(found, None) if found else {}
    given = {name: body[name] for name in KEYS if body.get(name) is not None}
    config = {**(before.get("autoscale_config") or {}), **given}
    if before.get("scale_to_zero_enabled"):
        config.setdefault("scale_to_zero", True)
    is_async = before.get("async_deployment_type") == "ASYNC"
    read = AutoscaleConfig(config, is_async=is_async, needs_targets="targets" in given)
    fields.wrong |= read.wrong
    if low == 0 and "min_replicas" not in fields.wrong and not read.has_cron:
        fields.refuse("min_replicas", "0 is only allowed with cronScaling.")
    if fields.wrong:
        raise refused(fields.wrong)
    if found is None or found.status is Status.FAILED or is_ending(found):
        raise missing({"error": "No active deployment found"})
    edit = DeploymentEdit(min_replicas=low, max_replicas=high, autoscale=read.policy)
    own = {CLIENTS_OWN: json.dumps(kept(found.annotations) | {"autoscale_config": config})}
    with answered():
        return await services.deployments.service.edit(
            caller, found.uuid, edit, revision=found.revision, own=own
        )


async def _until_written(once: Callable[[], Awaitable[Deployment]]) -> Deployment:
    """What an edit leaves it takes from what it read: who was overtaken reads anew."""
    for _ in range(ATTEMPTS):
        try:
            return await once()
        except StaleRevision:
            continue
    raise Overloaded("Too many change this deployment at the same time: try again.")


@router.delete("/{deployment_id}/delete/", responses={200: {"model": Done}, **refusals(404)})
async def delete_deployment(
    request: Request, deployment_id: str, caller: Writer, services: ServicesDep, hub: HubDep
) -> Response:
    """End its replicas, then the deployment. A repeat does nothing."""
    await own_org(services, caller, request.query_params)
    found = await find(services, caller, deployment_id)
    if is_ending(found):
        return json_answer({"message": "Deployment already Deleted"})
    service = services.deployments.service
    await waited(
        hub,
        caller,
        Deployment,
        found.uuid,
        ask=partial(service.delete, caller, found.uuid),
        load=partial(service.get, caller, found.uuid),
        is_settled=lambda deployment: deployment.status is Status.DELETED,
        wait_s=services.settings.verdict_wait_s,
    )
    return json_answer({"message": "Deployment deleted successfully"})


async def _order(
    request: Request,
    caller: Principal,
    services: Services,
    deployment_id: str,
    orders: Mapping[str, tuple[Any, str]],
) -> Response:
    body = await read_object(request)
    await own_org(services, caller, body, request.query_params)
    action = body.get("action")
    if not isinstance(action, str) or action not in orders:
        raise refused({"error": "Invalid action"})
    found = await find(services, caller, deployment_id)
    require_alive(found)
    order, done = orders[action]
    with answered():
        await order(caller, found.uuid)
    return json_answer({"message": f"Deployment {done} successfully", "update_result": done})
