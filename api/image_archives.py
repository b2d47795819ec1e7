"""`POST /yard/v1/images` with an archive as its body."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from api.answers import created
from api.archive_bodies import FORM, RAW, archive_body, is_archive
from api.auth import GuardedRoute, needs
from api.bodies import streams_body
from api.deps import Yard
from api.idempotency import Key
from api.views import image_json
from pipeline.core import records
from pipeline.core.ingested import Wish
from pipeline.errors import Conflict
from schemas.access import Permission, Principal
from schemas.image import Image, ImageSource
from schemas.states import ImageStatus

PREFIX = "/yard/v1/images"


class ArchiveRoute(GuardedRoute):
    """Meant when the body is an archive; the same path takes JSON, too."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        if match is Match.FULL and not is_archive(Headers(scope=scope).get("content-type", "")):
            return Match.NONE, {}
        return match, child


router = APIRouter(prefix=PREFIX, tags=["images"], route_class=ArchiveRoute)

Writer = Annotated[Principal, needs(Permission.IMAGE_WRITE)]


@router.post("", include_in_schema=False)
@streams_body
async def receive_image(
    request: Request,
    caller: Writer,
    yard: Yard,
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
    deliveries = yard.uploading.deliveries
    image = await deliveries.begin(
        caller,
        wish,
        source=ImageSource.ARCHIVE,
        total=archive.length,
        uuid=records.id_for(caller.org, Image.resource, key),
    )
    if image.replayed:
        return _answer(_finished(image), caller)
    image, _ = await deliveries.receive(image, archive.stream, wish, length=archive.length)
    return _answer(image, caller)


def described() -> dict[str, Any]:
    """What this adds to the documentation of `POST /yard/v1/images`."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    form = {"type": "object", "required": ["file"], "properties": {"file": binary["schema"]}}
    texts = {
        "name": "Of an archive: what the image is called; else like its RepoTag.",
        "repoTag": "Of an archive with several images: which one.",
        "platform": "Of an archive with several platforms: which one, like linux/arm64.",
    }
    return {
        "requestBody": {
            "content": dict.fromkeys(sorted(RAW), binary) | {FORM: {"schema": form}},
        },
        "parameters": [
            {"name": name, "in": "query", "schema": {"type": "string"}, "description": text}
            for name, text in texts.items()
        ],
    }


def _finished(image: Image) -> Image:
    if image.status is not ImageStatus.READY:
        raise Conflict("The archive of an earlier request with this key is still on its way.")
    return image


def _answer(image: Image, caller: Principal) -> Response:
    return created(
        image,
        image_json(image, caller),
        path=f"{PREFIX}/{image.uuid}",
        settled=True,
        replayed=image.replayed,
    )
