"""`/yard/v1/images`."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Body, Query, Request
from starlette.responses import Response

from api import image_archives
from api.answers import changed, created, found, problems
from api.auth import GuardedRoute, needs
from api.conditional import IfMatch, IfNoneMatch, expected_revision
from api.deps import Hub, Yard
from api.idempotency import Key
from api.paging import Cursor, Limit, PageView, page_response
from api.views import ImageView, image_json
from api.waiting import Wait, outcome
from pipeline.core import records
from schemas.access import Permission, Principal
from schemas.image import Image, ImageSpec
from schemas.states import ImageStatus

router = APIRouter(prefix="/yard/v1/images", tags=["images"], route_class=GuardedRoute)

Viewer = Annotated[Principal, needs(Permission.IMAGE_VIEW)]
Writer = Annotated[Principal, needs(Permission.IMAGE_WRITE)]

SETTLED = frozenset({ImageStatus.READY, ImageStatus.FAILED, ImageStatus.DELETED})

_EXAMPLES = {
    "by tag": {"value": {"reference": "127.0.0.1:5000/team/classifier:1.4", "name": "classifier"}},
    "private": {"value": {"reference": "ghcr.io/team/model:2", "secret": "team-ghcr"}},
}


@router.post(
    "",
    status_code=202,
    openapi_extra=image_archives.described(),
    responses={
        201: {"model": ImageView, "description": "The outcome: READY or FAILED."},
        202: {"model": ImageView, "description": "Recorded; its validation is under way."},
        **problems(400, 404, 409, 413, 415, 422, 503),
    },
)
async def submit_image(
    spec: Annotated[ImageSpec, Body(openapi_examples=_EXAMPLES)],
    caller: Writer,
    yard: Yard,
    hub: Hub,
    key: Key = None,
    wait: Wait = 0,
) -> Response:
    """Bring an image by reference. It is recorded at once and validated afterwards.

    With `wait`, the answer waits until the image is READY or FAILED. An archive of `docker save`
    may be the body instead: the answer is then 201 with the image READY, or the reason why not.
    """
    if not wait:
        image = await yard.images.submit(caller, spec, key=key)
        return _created(image, caller, replayed=image.replayed)
    key = key or records.new_id()
    uuid = records.id_for(caller.org, Image.resource, key)
    with hub.watch(caller.org, Image.resource, uuid) as watch:
        asked = await yard.images.submit(caller, spec, key=key)
        image = await outcome(
            watch,
            asked,
            load=partial(yard.images.get, caller, uuid),
            is_settled=_is_settled,
            wait_s=min(wait, yard.settings.wait_max_s),
        )
    return _created(image, caller, replayed=asked.replayed)


@router.get("", responses={200: {"model": PageView[ImageView]}, **problems(422, 503)})  # type: ignore[valid-type]
async def list_images(
    request: Request,
    caller: Viewer,
    yard: Yard,
    limit: Limit = 50,
    cursor: Cursor = None,
    status: Annotated[ImageStatus | None, Query(description="Only this status.")] = None,
    name: Annotated[str | None, Query(description="Only this name.", max_length=255)] = None,
) -> Response:
    """Images of the organisation, newest first. Deleted ones appear when `status` asks for them."""
    page = await yard.images.list(caller, limit=limit, cursor=cursor, status=status, name=name)
    return page_response(page, image_json, request=request, caller=caller)


@router.get(
    "/{uuid}",
    responses={
        200: {"model": ImageView},
        304: {"description": "Unchanged."},
        **problems(404, 503),
    },
)
async def get_image(
    uuid: str, caller: Viewer, yard: Yard, if_none_match: IfNoneMatch = None
) -> Response:
    """One image, with the findings of its validation and the needs that it declares."""
    image = await yard.images.get(caller, uuid)
    return found(image, image_json(image, caller), if_none_match)


@router.delete(
    "/{uuid}", responses={200: {"model": ImageView}, **problems(404, 409, 412, 422, 503)}
)
async def delete_image(uuid: str, caller: Writer, yard: Yard, if_match: IfMatch = None) -> Response:
    """Forget an image that no container uses. A repeat does nothing."""
    revision = await expected_revision(if_match, partial(yard.images.get, caller, uuid))
    image = await yard.images.delete(caller, uuid, revision=revision)
    return changed(image, image_json(image, caller))


def _created(image: Image, caller: Principal, *, replayed: bool) -> Response:
    return created(
        image,
        image_json(image, caller),
        path=f"{router.prefix}/{image.uuid}",
        settled=_is_settled(image),
        replayed=replayed,
    )


def _is_settled(image: Image) -> bool:
    return image.status in SETTLED
