"""`/yard/v1/{resource}/{id}/timeline`: what happened to one record; who did it: `audit`."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query
from pydantic import AfterValidator, WithJsonSchema
from starlette.responses import Response

from api.http.answers import JSON, cursor
from api.http.auth import GuardedRoute, ServicesDep, needs
from api.http.problem_details import problems
from pipeline.events.timeline import CURSOR
from schemas.access import Permission, Principal, Token, User
from schemas.base import Record
from schemas.container import Container, Volume
from schemas.deployment import Deployment
from schemas.image import Build, Image, Upload
from schemas.message import Timeline
from schemas.model import Model, ModelVersion
from schemas.node import Node
from schemas.organisation import Organisation
from schemas.registries.catalog import CatalogEntry
from schemas.registries.registry import Registry
from schemas.registries.secret import Secret
from schemas.webhook import Webhook

router = APIRouter(prefix="/yard/v1", tags=["events"], route_class=GuardedRoute)

KINDS: Final[dict[str, type[Record]]] = {
    "builds": Build,
    "catalog": CatalogEntry,
    "containers": Container,
    "deployments": Deployment,
    "images": Image,
    "models": Model,
    "model-versions": ModelVersion,
    "nodes": Node,
    "organisations": Organisation,
    "registries": Registry,
    "secrets": Secret,
    "tokens": Token,
    "uploads": Upload,
    "users": User,
    "volumes": Volume,
    "webhooks": Webhook,
}
"""As paths call them."""


def _known(resource: str) -> str:
    if resource not in KINDS:
        raise ValueError(f"one of {', '.join(sorted(KINDS))}")
    return resource


Resource = Annotated[
    str, AfterValidator(_known), WithJsonSchema({"type": "string", "enum": sorted(KINDS)})
]


@router.get(
    "/{resource}/{id}/timeline", responses={200: {"model": Timeline}, **problems(404, 422, 503)}
)
async def get_timeline(
    resource: Resource,
    id: str,
    caller: Annotated[Principal, needs(Permission.EVENT_VIEW)],
    services: ServicesDep,
    limit: Annotated[int, Query(ge=1, le=1000, description="Most events of one page.")] = 200,
    cursor: Annotated[str | None, cursor(CURSOR)] = None,
) -> Response:
    """Every event of one record, the oldest first, with the durations between them.

    `id` is the record's uuid; what was deleted has a timeline, too. Events are kept for seven days:
    `complete` is false where older ones are gone. To follow from here on, send `resume` as
    `last_event_id` to `/yard/v1/events` with this `id`.
    """
    timeline = await services.watching.timelines.read(
        caller.org, KINDS[resource], id, limit=limit, cursor=cursor
    )
    return Response(timeline.model_dump_json(), media_type=JSON)
