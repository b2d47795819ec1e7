"""`/yard/v1/webhooks`: whom an organisation has told what happens, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from api.http.answers import (
    JSON,
    Cursor,
    IfMatch,
    IfNoneMatch,
    Key,
    Limit,
    PageView,
    changed,
    created,
    expected_revision,
    found,
    page_response,
)
from api.http.auth import GuardedRoute, ServicesDep, needs
from api.http.problem_details import problems
from api.yard.views import WebhookDeliveryView, WebhookView, delivery_json, webhook_json
from schemas.access import Permission, Principal
from schemas.states import WebhookDeliveryStatus
from schemas.webhook import WebhookEdit, WebhookSpec

router = APIRouter(prefix="/yard/v1/webhooks", tags=["webhooks"], route_class=GuardedRoute)

Viewer = Annotated[Principal, needs(Permission.WEBHOOK_VIEW)]
Keeper = Annotated[Principal, needs(Permission.WEBHOOK_WRITE)]
DAY_S = 24 * 3600
KeepS = Annotated[
    float,
    Query(
        ge=0,
        le=30 * DAY_S,
        allow_inf_nan=False,
        description="Seconds for which the secret before it signs, too.",
    ),
]
_EXAMPLES: Any = {
    "images that are ready": {
        "value": {
            "name": "ci",
            "url": "https://ci.example.com/hooks/modelyard",
            "resources": ["image"],
            "kinds": ["ready", "failed"],
        }
    }
}
_EDIT_EXAMPLES: Any = {"off": {"value": {"active": False}}}


class SigningSecretsView(BaseModel):
    secrets: list[str]
    """`whsec_…`, the newest first. Any of them verifies what is sent now."""


@router.post(
    "",
    status_code=201,
    responses={201: {"model": WebhookView}, **problems(400, 409, 413, 415, 422, 503)},
)
async def create_webhook(
    spec: Annotated[WebhookSpec, Body(openapi_examples=_EXAMPLES)],
    caller: Keeper,
    services: ServicesDep,
    key: Key = None,
) -> Response:
    """Have a URL told of what happens from now on, signed after Standard Webhooks."""
    made = await services.webhooks.service.create(caller, spec, key=key)
    return created(made, webhook_json(made, caller), router.prefix, settled=True)


@router.get("", responses={200: {"model": PageView[WebhookView]}, **problems(422, 503)})  # type: ignore[valid-type]
async def list_webhooks(
    request: Request,
    caller: Viewer,
    services: ServicesDep,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Webhooks of the organisation, newest first."""
    page = await services.webhooks.service.list(caller, limit=limit, cursor=cursor)
    return page_response(page, webhook_json, request=request, caller=caller)


@router.get(
    "/{webhook}", responses={200: {"model": WebhookView}, 304: {}, **problems(404, 422, 503)}
)
async def get_webhook(
    webhook: str, caller: Viewer, services: ServicesDep, if_none_match: IfNoneMatch = None
) -> Response:
    """One webhook, by its id or its name."""
    known = await services.webhooks.service.find(caller, webhook)
    return found(known, webhook_json(known, caller), if_none_match)


@router.patch(
    "/{webhook}",
    responses={200: {"model": WebhookView}, **problems(400, 404, 409, 412, 413, 415, 422, 503)},
)
async def edit_webhook(
    webhook: str,
    edit: Annotated[WebhookEdit, Body(openapi_examples=_EDIT_EXAMPLES)],
    caller: Keeper,
    services: ServicesDep,
    if_match: IfMatch = None,
) -> Response:
    """Change where it goes or of what it tells, disable it, or enable it from now on."""
    service = services.webhooks.service
    expected = await expected_revision(if_match, lambda: service.find(caller, webhook))
    edited = await service.edit(caller, webhook, edit, revision=expected)
    return changed(edited, webhook_json(edited, caller))


@router.delete(
    "/{webhook}", responses={200: {"model": WebhookView}, **problems(404, 409, 412, 422, 503)}
)
async def delete_webhook(
    webhook: str, caller: Keeper, services: ServicesDep, if_match: IfMatch = None
) -> Response:
    """Tell nothing any more; what waits to be sent is not sent."""
    service = services.webhooks.service
    expected = await expected_revision(if_match, lambda: service.find(caller, webhook))
    gone = await service.delete(caller, webhook, revision=expected)
    return changed(gone, webhook_json(gone, caller))


@router.get(
    "/{webhook}/secret", responses={200: {"model": SigningSecretsView}, **problems(404, 422, 503)}
)
async def show_signing_secret(webhook: str, caller: Keeper, services: ServicesDep) -> Response:
    """What its receiver verifies with."""
    service = services.webhooks.service
    keys = service.keys(await service.find(caller, webhook))
    return _secrets(keys)


@router.post(
    "/{webhook}/rotate-secret",
    responses={200: {"model": SigningSecretsView}, **problems(404, 409, 412, 422, 503)},
)
async def rotate_signing_secret(
    webhook: str,
    caller: Keeper,
    services: ServicesDep,
    keep_s: KeepS = DAY_S,
    if_match: IfMatch = None,
) -> Response:
    """Sign with a new secret. The one before it goes on for a while, beside it."""
    service = services.webhooks.service
    expected = await expected_revision(if_match, lambda: service.find(caller, webhook))
    rotated = await service.rotate_secret(caller, webhook, keep_s=keep_s, revision=expected)
    return _secrets(service.keys(rotated))


@router.post(
    "/{webhook}/test",
    status_code=202,
    responses={202: {"model": WebhookDeliveryView}, **problems(404, 409, 422, 503)},
)
async def send_test(
    webhook: str, caller: Keeper, services: ServicesDep, key: Key = None
) -> Response:
    """Send an event that did not happen; what came of it stands among the deliveries."""
    sent = await services.webhooks.deliveries.test(caller, webhook, key=key)
    return Response(delivery_json(sent, caller), 202, media_type=JSON)


@router.get(
    "/{webhook}/deliveries",
    responses={200: {"model": PageView[WebhookDeliveryView]}, **problems(404, 422, 503)},  # type: ignore[valid-type]
)
async def list_deliveries(
    request: Request,
    webhook: str,
    caller: Viewer,
    services: ServicesDep,
    status: WebhookDeliveryStatus | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """What was sent or waits to be, with its last tries; newest first."""
    page = await services.webhooks.deliveries.list(
        caller, webhook, status=status, limit=limit, cursor=cursor
    )
    return page_response(page, delivery_json, request=request, caller=caller)


@router.post(
    "/{webhook}/deliveries/{delivery}/send",
    status_code=202,
    responses={202: {"model": WebhookDeliveryView}, **problems(404, 409, 422, 503)},
)
async def send_delivery_again(
    webhook: str, delivery: str, caller: Keeper, services: ServicesDep
) -> Response:
    """Send one again that was given up, or that its receiver has lost."""
    sent = await services.webhooks.deliveries.send_again(caller, webhook, delivery)
    return Response(delivery_json(sent, caller), 202, media_type=JSON)


def _secrets(keys: Sequence[str]) -> Response:
    view = SigningSecretsView(secrets=list(keys))
    headers = {"Cache-Control": "no-store"}
    return Response(view.model_dump_json(), headers=headers, media_type=JSON)
