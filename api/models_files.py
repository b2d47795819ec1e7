"""`/api/models/…`: test inputs, samples and pictures."""

from __future__ import annotations

import base64
import json
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api import models_bodies
from api.archive_bodies import FORM, archive_body
from api.auth import GuardedRoute
from api.bodies import streams_body
from api.deps import Yard
from api.models import PREFIX, Identifier, Version, Viewer, Writer
from api.models_errors import failures
from api.models_views import answer
from pipeline.errors import InvalidInput, NotFound, TooLarge
from pipeline.rules import strict_json
from pipeline.services import Services
from schemas.access import Principal
from schemas.model import FileKind

router = APIRouter(prefix=PREFIX, tags=["models"], route_class=GuardedRoute)

AT = "/{identifier}/versions/{version}"
_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            FORM: {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}
_ANY_JSON = {"requestBody": {"required": True, "content": {"application/json": {"schema": {}}}}}
_PICTURES = {
    b"\x89PNG": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"RIFF": "image/webp",
}


@router.post(
    AT + "/testInput",
    status_code=201,
    openapi_extra=_FORM,
    responses=failures(400, 404, 413, 415, 422),
)
@streams_body
async def put_test_input(
    identifier: Identifier,
    version: Version,
    request: Request,
    caller: Writer,
    yard: Yard,
    name: Annotated[str, Query(description="One of the inputs that the version declares.")],
) -> Response:
    """Keep a file as the test input of that name."""
    record = await yard.model.versions.get(caller, identifier, version)
    content = await _file(request, yard)
    file = await yard.model.files.put_test_input(record, name, content)
    return answer({"name": file.name, "size": len(content)}, 201)


@router.put(
    AT + "/sample-input", openapi_extra=_ANY_JSON, responses=failures(400, 404, 413, 415, 422)
)
async def put_sample_input(
    identifier: Identifier, version: Version, request: Request, caller: Writer, yard: Yard
) -> Response:
    """Keep any JSON as an example of an input."""
    return await _put_sample(request, caller, yard, identifier, version, "sample_input")


@router.put(
    AT + "/sample-output", openapi_extra=_ANY_JSON, responses=failures(400, 404, 413, 415, 422)
)
async def put_sample_output(
    identifier: Identifier, version: Version, request: Request, caller: Writer, yard: Yard
) -> Response:
    """Keep any JSON as an example of an output."""
    return await _put_sample(request, caller, yard, identifier, version, "sample_output")


@router.get(AT + "/sample-input", responses=failures(404))
async def get_sample_input(
    identifier: Identifier, version: Version, caller: Viewer, yard: Yard
) -> Response:
    """The example of an input. 404 before there is one."""
    record = await yard.model.versions.get(caller, identifier, version)
    return _sample(record.sample_input)


@router.get(AT + "/sample-output", responses=failures(404))
async def get_sample_output(
    identifier: Identifier, version: Version, caller: Viewer, yard: Yard
) -> Response:
    """The example of an output. 404 before there is one."""
    record = await yard.model.versions.get(caller, identifier, version)
    return _sample(record.sample_output)


@router.post(
    "/{identifier}/image",
    status_code=201,
    openapi_extra=_FORM,
    responses=failures(400, 404, 413, 415, 422),
)
@streams_body
async def put_picture(
    identifier: Identifier,
    request: Request,
    caller: Writer,
    yard: Yard,
    description: Annotated[str, Query(max_length=10_000)] = "",
) -> Response:
    """Keep a picture of a model, in place of the one before."""
    strict_json.check_text(description)
    model = await yard.model.models.get(caller, identifier)
    content = await _file(request, yard)
    kind = next((kind for head, kind in _PICTURES.items() if content.startswith(head)), None)
    if kind is None:
        raise InvalidInput("The picture must be a PNG, JPEG, GIF or WebP.", field="file")
    await yard.model.files.put(model.org, model.uuid, FileKind.PICTURE, content, media_type=kind)
    await yard.model.models.change(caller, identifier, {"picture_description": description})
    return answer({"description": description, "mediaType": kind, "size": len(content)}, 201)


@router.get("/{identifier}/image", responses=failures(404))
async def get_picture(identifier: Identifier, caller: Viewer, yard: Yard) -> Response:
    """The picture, in base64 as every body here is JSON. 404 before there is one."""
    model = await yard.model.models.get(caller, identifier)
    file = await yard.model.files.find(model.org, model.uuid, FileKind.PICTURE)
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


async def _put_sample(
    request: Request, caller: Principal, yard: Services, identifier: str, version: str, field: str
) -> Response:
    sample = await models_bodies.read_json(request)
    await yard.model.versions.put_sample(caller, identifier, version, field, sample)
    return answer(sample)


def _sample(text: str | None) -> Response:
    if text is None:
        raise NotFound("There is no such sample yet.")
    return answer(json.loads(text))


async def _file(request: Request, yard: Services) -> bytes:
    """The part `file` of a form. Raises TooLarge, InvalidInput."""
    if models_bodies.media_type(request) != FORM:
        raise HTTPException(415, f"Send the file as {FORM}.")
    most = yard.settings.model_file_max_bytes
    content = bytearray()
    async for piece in archive_body(request, silence_s=yard.settings.upload_stall_s).stream:
        content += piece
        if len(content) > most:
            raise TooLarge(f"The file is larger than {most} bytes.")
    return bytes(content)
