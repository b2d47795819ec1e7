"""`/api/models/…`: what callers hand over: container images, test inputs, samples, pictures."""

from __future__ import annotations

import base64
import json
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api.http.answers import JSON
from api.http.auth import GuardedRoute, ServicesDep
from api.http.bodies import FORM, RAW, archive_body, is_archive, media_type, streams_body
from api.http.problem_details import Failure
from api.models import bodies, views
from api.models.bodies import ErrorBodies, LinkDelivery, answer, failures
from api.models.routes import AT, PREFIX, ModelDep, VersionDep, Viewer, Writer
from pipeline import strict_json
from pipeline.bootstrap.control_plane import Services
from pipeline.errors import InvalidInput, NotFound, TooLarge
from pipeline.images.delivery_events import has_failed
from pipeline.images.ingest.ingest import Wish
from schemas.access import Principal
from schemas.image import PLATFORM, ImageSource
from schemas.model import FileKind, ModelVersion

router = APIRouter(prefix=PREFIX, tags=["models"], route_class=GuardedRoute)

PATH = AT + "/container-image"

RepoTag = Annotated[
    str | None, Query(alias="repoTag", description="Which image of an archive with several.")
]
Platform = Annotated[
    str | None,
    Query(
        description="Which platform of an image that has several: `linux/arm64`.",
        json_schema_extra={"pattern": PLATFORM},
    ),
]


_FORM: dict[str, Any] = {FORM: {"schema": bodies.FILE}}
_ANY_JSON: dict[str, Any] = {JSON: {"schema": {}}}
_PICTURES = {
    b"\x89PNG": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"RIFF": "image/webp",
}
_BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_BODY = bodies.takes(
    {
        JSON: {"schema": LinkDelivery.model_json_schema(by_alias=True)},
        **dict.fromkeys(sorted(RAW), _BINARY),
        FORM: {"schema": bodies.FILE},
    },
    *(404, 409, 502, 507),
)
_BODY["responses"] |= {
    201: {"description": "The archive is stored and proved."},
    202: {"description": "The link is recorded; its image is being looked at."},
}


@router.post(PATH, status_code=202, **_BODY)
@streams_body
async def deliver_image(
    version: VersionDep,
    request: Request,
    caller: Writer,
    yard: ServicesDep,
    repo_tag: RepoTag = None,
    platform: Platform = None,
) -> Response:
    """Link an image in a registry (JSON), or send it as a TAR.

    The newest delivery to a version wins.
    """
    if is_archive(request.headers):
        wish = Wish(repo_tag=repo_tag, platform=platform)
        return await _receive(request, caller, yard, version, wish)
    if media_type(request.headers) != JSON:
        raise HTTPException(415, "Send a registry link as application/json, or a TAR.")
    link = (await bodies.read(request, LinkDelivery)).registry
    delivered = await yard.models.deliveries.link(
        caller,
        version,
        link.url,
        username=link.username or "",
        password=link.password.get_secret_value() if link.password else "",
        platform=platform,
    )
    return answer(views.image_object(delivered.image, delivered.version.load), 202)


@router.get(PATH, responses=failures(404, 422))
async def get_image(
    version: VersionDep, request: Request, caller: Viewer, yard: ServicesDep
) -> Response:
    """How far the image is. 404 before any delivery; 422, with the object, after a failed one."""
    image = await yard.models.deliveries.current(version)
    if image is None:
        raise NotFound("No container image was delivered to this version yet.")
    shown = views.image_object(image, version.load)
    if not has_failed(image):
        return answer(shown)
    code = image.findings[0].code if image.findings else "image_rejected"
    failure = Failure(422, code, image.reason or "The delivery failed.")
    renderer: ErrorBodies = request.app.state.model_errors
    return renderer.answer(failure, technical=shown["technicalInformation"], containerImage=shown)


@router.post(AT + "/testInput", status_code=201, **bodies.takes(_FORM, 404))
@streams_body
async def put_test_input(
    version: VersionDep,
    request: Request,
    caller: Writer,
    yard: ServicesDep,
    name: Annotated[str, Query(description="One of the inputs that the version declares.")],
) -> Response:
    """Keep a file as the test input of that name."""
    content = await _file(request, yard)
    file = await yard.models.files.put_test_input(version, name, content)
    return answer({"name": file.name, "size": len(content)}, 201)


@router.put(AT + "/sample-input", **bodies.takes(_ANY_JSON, 404))
async def put_sample_input(
    version: VersionDep, request: Request, caller: Writer, yard: ServicesDep
) -> Response:
    """Keep any JSON as an example of an input."""
    return await _put_sample(request, yard, version, "sample_input")


@router.put(AT + "/sample-output", **bodies.takes(_ANY_JSON, 404))
async def put_sample_output(
    version: VersionDep, request: Request, caller: Writer, yard: ServicesDep
) -> Response:
    """Keep any JSON as an example of an output."""
    return await _put_sample(request, yard, version, "sample_output")


@router.get(AT + "/sample-input", responses=failures(404))
async def get_sample_input(version: VersionDep, caller: Viewer) -> Response:
    """The example of an input. 404 before there is one."""
    return _sample(version.sample_input)


@router.get(AT + "/sample-output", responses=failures(404))
async def get_sample_output(version: VersionDep, caller: Viewer) -> Response:
    """The example of an output. 404 before there is one."""
    return _sample(version.sample_output)


@router.post("/{identifier}/image", status_code=201, **bodies.takes(_FORM, 404))
@streams_body
async def put_picture(
    model: ModelDep,
    request: Request,
    caller: Writer,
    yard: ServicesDep,
    description: Annotated[str, Query(max_length=600)] = "",
) -> Response:
    """Keep a picture of a model, in place of the one before."""
    strict_json.check_text(description)
    content = await _file(request, yard)
    kind = next((kind for head, kind in _PICTURES.items() if content.startswith(head)), None)
    if kind is None:
        raise InvalidInput("The picture must be a PNG, JPEG, GIF or WebP.", field="file")
    await yard.models.files.put(model.org, model.uuid, FileKind.PICTURE, content, media_type=kind)
    await yard.models.service.change(caller, model, {"picture_description": description})
    return answer({"description": description, "mediaType": kind, "size": len(content)}, 201)


@router.get("/{identifier}/image", responses=failures(404))
async def get_picture(model: ModelDep, caller: Viewer, yard: ServicesDep) -> Response:
    """The picture, in base64 as every body here is JSON. 404 before there is one."""
    file = await yard.models.files.find(model.org, model.uuid, FileKind.PICTURE)
    if file is None:
        raise NotFound("The model has no picture yet.")
    return answer(
        {
            "description": model.picture_description,
            "mediaType": file.media_type,
            "size": len(file.content),
            "content": base64.b64encode(file.content).decode(),
        }
    )


async def _receive(
    request: Request, caller: Principal, yard: Services, version: ModelVersion, wish: Wish
) -> Response:
    """Into the platform's registry while it arrives. Answers once it is stored and proved."""
    archive = archive_body(request, silence_s=yard.settings.upload_stall_s)
    yard.images.ingest.require_size(archive.length or 0)
    delivered = await yard.models.deliveries.begin_archive(
        caller, version, platform=wish.platform, source=ImageSource.ARCHIVE, total=archive.length
    )
    image, _ = await yard.images.deliveries.receive(
        delivered.image, archive.stream, wish, length=archive.length
    )
    return answer(views.image_object(image, delivered.version.load), 201)


async def _put_sample(
    request: Request, yard: Services, version: ModelVersion, field: str
) -> Response:
    sample = await bodies.read_json(request)
    await yard.models.versions.put_sample(version, field, sample)
    return answer(sample)


def _sample(text: str | None) -> Response:
    if text is None:
        raise NotFound("There is no such sample yet.")
    return answer(json.loads(text))


async def _file(request: Request, yard: Services) -> bytes:
    """The part `file` of a form. Raises TooLarge, InvalidInput."""
    if media_type(request.headers) != FORM:
        raise HTTPException(415, f"Send the file as {FORM}.")
    most = yard.settings.model_file_max_bytes
    content = bytearray()
    async for piece in archive_body(request, silence_s=yard.settings.upload_stall_s).stream:
        content += piece
        if len(content) > most:
            raise TooLarge(f"The file is larger than {most} bytes.")
    return bytes(content)
