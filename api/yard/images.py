"""`/yard/v1/images`: by reference as JSON, or as an archive."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request
from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from api.http.answers import (
    JSON,
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
from api.http.bodies import FIELD, FORM, RAW, archive_body, is_archive, streams_body
from api.http.problem_details import problems
from api.yard.registries.catalog import NodeEligibility, RequirementsView, eligibility, requirements
from api.yard.views import ImageView, image_json
from pipeline.errors import Conflict
from pipeline.images.ingest.ingest import Wish
from pipeline.records.idempotency import id_for, new_id
from schemas.access import Permission, Principal
from schemas.image import PLATFORM, Image, ImageSource, ImageSpec
from schemas.states import ImageStatus

PREFIX = "/yard/v1/images"


class ArchiveRoute(GuardedRoute):
    """Meant when the body is an archive; the same path takes JSON, too."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        if match is Match.FULL and not is_archive(Headers(scope=scope)):
            return Match.NONE, {}
        return match, child


router = APIRouter(prefix=PREFIX, tags=["images"], route_class=GuardedRoute)
archives = APIRouter(prefix=PREFIX, tags=["images"], route_class=ArchiveRoute)

Viewer = Annotated[Principal, needs(Permission.IMAGE_VIEW)]
Writer = Annotated[Principal, needs(Permission.IMAGE_WRITE)]

NodeViewer = Annotated[Principal, needs(Permission.NODE_VIEW)]


class NamedImage(BaseModel):
    id: str
    name: str
    reference: str


class ImageNodes(BaseModel):
    image: NamedImage
    requirements: RequirementsView
    nodes: list[NodeEligibility]


SETTLED = frozenset({ImageStatus.READY, ImageStatus.FAILED, ImageStatus.DELETED})

_EXAMPLES = {
    "by tag": {"value": {"reference": "127.0.0.1:5000/team/classifier:1.4", "name": "classifier"}},
    "private": {"value": {"reference": "ghcr.io/team/model:2", "secret": "team-ghcr"}},
}
_ARCHIVE = {"schema": {"type": "string", "format": "binary"}}
_FORM = {"type": "object", "required": [FIELD], "properties": {FIELD: _ARCHIVE["schema"]}}
_TEXTS: dict[str, tuple[int, int, str, dict[str, str]]] = {
    "name": (1, 255, "Of an archive: what the image is called; else like its RepoTag.", {}),
    "repoTag": (0, 512, "Of an archive with several images: which one.", {}),
    "platform": (
        1,
        100,
        "Of an archive with several platforms: which one, like linux/arm64.",
        {"pattern": PLATFORM},
    ),
}
ARCHIVES: Any = {
    "requestBody": {"content": dict.fromkeys(sorted(RAW), _ARCHIVE) | {FORM: {"schema": _FORM}}},
    "parameters": [
        {
            "name": name,
            "in": "query",
            "schema": {"type": "string", "minLength": least, "maxLength": most} | grammar,
            "description": text,
        }
        for name, (least, most, text, grammar) in _TEXTS.items()
    ],
}
"""What archives add to the documentation of the path."""


@router.post(
    "",
    status_code=202,
    openapi_extra=ARCHIVES,
    responses={
        201: {"model": ImageView, "description": "The outcome: READY or FAILED."},
        202: {"model": ImageView, "description": "Recorded; its validation is under way."},
        **problems(400, 404, 409, 413, 415, 422, 503),
    },
)
async def submit_image(
    spec: Annotated[ImageSpec, Body(openapi_examples=_EXAMPLES)],
    caller: Writer,
    yard: ServicesDep,
    hub: HubDep,
    key: Key = None,
    wait: Wait = 0,
) -> Response:
    """Bring an image by reference. It is recorded at once and validated afterwards.

    With `wait`, the answer waits until the image is READY or FAILED. An archive of `docker save`
    may be the body instead: the answer is then 201 with the image READY, or the reason why not.
    """
    key = key or new_id()
    uuid = id_for(caller.org, Image.resource, key)
    image = await waited(
        hub,
        caller,
        Image,
        uuid,
        ask=partial(yard.images.service.submit, caller, spec, key=key),
        load=partial(yard.images.service.get, caller, uuid),
        is_settled=_is_settled,
        wait_s=min(wait, yard.settings.wait_max_s),
    )
    return created(image, image_json(image, caller), PREFIX, settled=_is_settled(image))


@archives.post("", include_in_schema=False)
@streams_body
async def receive_image(
    request: Request,
    caller: Writer,
    yard: ServicesDep,
    key: Key = None,
    name: Annotated[str | None, Query(min_length=1, max_length=255)] = None,
    repo_tag: Annotated[str | None, Query(alias="repoTag", max_length=512)] = None,
    platform: Annotated[str | None, Query(max_length=100)] = None,
) -> Response:
    """Take in what `docker save` wrote. The answer tells the outcome; of a failure nothing stays.

    The layers go into the platform's registry while they arrive.
    """
    archive = archive_body(request, silence_s=yard.settings.upload_stall_s)
    wish = Wish(name=name, repo_tag=repo_tag, platform=platform)
    deliveries = yard.images.deliveries
    image = await deliveries.begin(
        caller,
        wish,
        source=ImageSource.ARCHIVE,
        total=archive.length,
        uuid=id_for(caller.org, Image.resource, key),
    )
    if not image.replayed:
        image, _ = await deliveries.receive(image, archive.stream, wish, length=archive.length)
    elif image.status is not ImageStatus.READY:
        raise Conflict("The archive of an earlier request with this key is still on its way.")
    return created(image, image_json(image, caller), PREFIX, settled=True)


@router.get("", responses={200: {"model": PageView[ImageView]}, **problems(422, 503)})  # type: ignore[valid-type]
async def list_images(
    request: Request,
    caller: Viewer,
    yard: ServicesDep,
    limit: Limit = 50,
    cursor: Cursor = None,
    status: Annotated[ImageStatus | None, Query(description="Only this status.")] = None,
    name: Annotated[str | None, Query(description="Only this name.", max_length=255)] = None,
    superseded: Annotated[
        bool, Query(description="Those, too, whose name a newer image has.")
    ] = False,
) -> Response:
    """Images of the organisation, newest first. Deleted ones appear when `status` asks for them.

    A name that was not chosen for one image alone behaves like a tag: the newest READY image has
    it, and older ones carry `superseded_by`.
    """
    page = await yard.images.service.list(
        caller, limit=limit, cursor=cursor, status=status, name=name, superseded=superseded
    )
    return page_response(page, image_json, request=request, caller=caller)


@router.get("/find", responses={200: {"model": ImageView}, **problems(404, 422, 503)})
async def find_image(caller: Viewer, yard: ServicesDep, called: Called) -> Response:
    """The image that a launch would take for this text: a uuid or its beginning, a name, a
    reference, `name@digest` or a digest. Of a name that several were pushed under, the newest."""
    image = await yard.images.service.find(caller, called)
    return found(image, image_json(image, caller), None)


@router.get(
    "/{uuid}",
    responses={200: {"model": ImageView}, 304: {"description": "Unchanged."}, **problems(404, 503)},
)
async def get_image(
    uuid: str, caller: Viewer, yard: ServicesDep, if_none_match: IfNoneMatch = None
) -> Response:
    """One image, with the findings of its validation and the needs that it declares."""
    image = await yard.images.service.get(caller, uuid)
    return found(image, image_json(image, caller), if_none_match)


@router.get("/{uuid}/nodes", responses={200: {"model": ImageNodes}, **problems(404, 422, 503)})
async def list_image_nodes(uuid: str, caller: Viewer, _: NodeViewer, yard: ServicesDep) -> Response:
    """Which nodes could run a container of it now, and for each other one every reason why not: the
    check of the scheduler itself."""
    image = await yard.images.service.get(caller, uuid)
    check = await yard.placement.checks.of_image(image)
    named = NamedImage(id=image.uuid, name=image.name, reference=image.reference)
    view = ImageNodes(image=named, requirements=requirements(check), nodes=eligibility(check))
    return Response(view.model_dump_json(), media_type=JSON)


@router.delete(
    "/{uuid}", responses={200: {"model": ImageView}, **problems(404, 409, 412, 422, 503)}
)
async def delete_image(
    uuid: str, caller: Writer, yard: ServicesDep, if_match: IfMatch = None
) -> Response:
    """Forget an image that no container uses. A repeat does nothing."""
    revision = await expected_revision(if_match, partial(yard.images.service.get, caller, uuid))
    image = await yard.images.service.delete(caller, uuid, revision=revision)
    return changed(image, image_json(image, caller))


def _is_settled(image: Image) -> bool:
    return image.status in SETTLED
