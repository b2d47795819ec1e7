"""`/api/models/…/container-image`: delivering an image and watching it arrive."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api import models_bodies, models_views
from api.archive_bodies import FORM, RAW, archive_body, is_archive
from api.auth import GuardedRoute
from api.bodies import streams_body
from api.deps import Yard
from api.models import PREFIX, Identifier, Version, Viewer, Writer
from api.models_errors import ErrorBodies, failures
from api.models_views import answer
from api.problems import Failure
from pipeline.core.ingested import Wish
from pipeline.errors import NotFound
from pipeline.rules import container_image
from pipeline.services import Services
from schemas.access import Principal
from schemas.image import Image, ImageSource
from schemas.model_requests import LinkDelivery

router = APIRouter(prefix=PREFIX, tags=["models"], route_class=GuardedRoute)

PATH = "/{identifier}/versions/{version}/container-image"

RepoTag = Annotated[
    str | None, Query(alias="repoTag", description="Which image of an archive with several.")
]
Platform = Annotated[
    str | None, Query(description="Which platform of an image that has several: `linux/arm64`.")
]


def _described() -> dict[str, Any]:
    """The body is JSON or an archive."""
    extra = models_bodies.described(LinkDelivery)
    binary = {"schema": {"type": "string", "format": "binary"}}
    file = {"type": "object", "required": ["file"], "properties": {"file": binary["schema"]}}
    content = extra["requestBody"]["content"]
    content |= dict.fromkeys(sorted(RAW), binary) | {FORM: {"schema": file}}
    return extra


@router.post(
    PATH,
    status_code=202,
    openapi_extra=_described(),
    responses={
        201: {"description": "The archive is stored and proved."},
        202: {"description": "The link is recorded; its image is being looked at."},
        **failures(400, 404, 409, 413, 415, 422, 502, 507),
    },
)
@streams_body
async def deliver_image(
    identifier: Identifier,
    version: Version,
    request: Request,
    caller: Writer,
    yard: Yard,
    repo_tag: RepoTag = None,
    platform: Platform = None,
) -> Response:
    """Link an image in a registry (JSON), or send it as a TAR.

    The newest delivery to a version wins.
    """
    if is_archive(request.headers.get("content-type", "")):
        wish = Wish(repo_tag=repo_tag, platform=platform)
        return await _receive(request, caller, yard, identifier, version, wish)
    if models_bodies.media_type(request) != models_bodies.JSON:
        raise HTTPException(415, "Send a registry link as application/json, or a TAR.")
    wanted = await models_bodies.read(request, LinkDelivery)
    delivered = await yard.model.deliveries.link(
        caller, identifier, version, wanted.registry, platform=platform
    )
    return answer(container_image.describe(delivered.image, delivered.version.load), 202)


@router.get(PATH, responses=failures(404, 422))
async def get_image(
    identifier: Identifier, version: Version, request: Request, caller: Viewer, yard: Yard
) -> Response:
    """How far the image is. 404 before any delivery; 422, with the object, after a failed one."""
    record = await yard.model.versions.get(caller, identifier, version)
    image = await yard.model.deliveries.current(record)
    shown = models_views.image_object(record, image)
    if image is None or shown is None:
        raise NotFound("No container image was delivered to this version yet.")
    if container_image.has_failed(image):
        bodies: ErrorBodies = request.app.state.model_errors
        technical = shown["technicalInformation"]
        return bodies.answer(_failure(image), technical=technical, containerImage=shown)
    return answer(shown)


async def _receive(
    request: Request,
    caller: Principal,
    yard: Services,
    identifier: str,
    version: str,
    wish: Wish,
) -> Response:
    """Into the platform's registry while it arrives. Answers once it is stored and proved."""
    archive = archive_body(request, silence_s=yard.settings.upload_stall_s)
    yard.uploading.ingest.require_size(archive.length or 0)
    delivered = await yard.model.deliveries.begin_archive(
        caller,
        identifier,
        version,
        platform=wish.platform,
        source=ImageSource.ARCHIVE,
        total=archive.length,
    )
    image, _ = await yard.uploading.deliveries.receive(
        delivered.image, archive.stream, wish, length=archive.length
    )
    return answer(container_image.describe(image, delivered.version.load), 201)


def _failure(image: Image) -> Failure:
    code = image.findings[0].code if image.findings else "image_rejected"
    return Failure(422, code, image.reason or "The delivery failed.")
