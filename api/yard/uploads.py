"""`/yard/v1/uploads`: tus 1.0.0 with creation, termination, checksum and expiration."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from email.utils import format_datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Header, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api.http import problem_details
from api.http.answers import Cursor, Limit, PageView, page_response
from api.http.auth import GuardedRoute, OpenRoute, ServicesDep, needs
from api.http.bodies import body, streams_body
from api.http.problem_details import Failure
from api.http.problem_details import problems as documented
from pipeline import concurrency
from pipeline.errors import MalformedRequest, TarTruncated
from pipeline.images.ingest import progress
from pipeline.uploads import tus
from pipeline.uploads.service import Uploads
from schemas.access import Permission, Principal
from schemas.base import Shape
from schemas.image import DigestList, PresentBlob, PresentBlobs, Upload, UploadedImage, UploadWish
from schemas.states import UploadStatus

PREFIX = "/yard/v1/uploads"
OFFSET_OCTETS = "application/offset+octet-stream"
SPOKEN = {"Tus-Resumable": tus.VERSION}

router = APIRouter(prefix=PREFIX, tags=["uploads"], route_class=GuardedRoute)
open_router = APIRouter(prefix=PREFIX, tags=["uploads"], route_class=OpenRoute)

Writer = Annotated[Principal, needs(Permission.IMAGE_WRITE)]
Viewer = Annotated[Principal, needs(Permission.IMAGE_VIEW)]


Undocumented = Annotated[str | None, Header(include_in_schema=False)]


async def _speaks_tus(tus_resumable: Undocumented = None) -> None:
    if tus_resumable != tus.VERSION:
        raise HTTPException(
            412, f"Send the header Tus-Resumable: {tus.VERSION}.", {"Tus-Version": tus.VERSION}
        )


async def _speaks_nothing_else(tus_resumable: Undocumented = None) -> None:
    if tus_resumable is not None:
        await _speaks_tus(tus_resumable)


TUS = [Depends(_speaks_tus)]
_BASE64 = "[A-Za-z0-9+/]"


def _headers(*more: str, required: bool = True) -> dict[str, Any]:
    """`Tus-Resumable` and others, as they are documented."""
    text, count = {"type": "string"}, {"type": "string", "pattern": "^[0-9]{1,18}$"}
    schemas: dict[str, Any] = {
        "Tus-Resumable": text | {"enum": [tus.VERSION]},
        "Upload-Length": count,
        "Upload-Offset": count,
        "Upload-Checksum": text
        | {
            "pattern": f"^(sha1 {_BASE64}{{27}}=|sha256 {_BASE64}{{43}}=)$",
            "examples": ["sha1 2jmj7l5rSw0yVb/vlWAYkK/YBwk="],
        },
        "Upload-Metadata": text | {"examples": ["name Y2xhc3NpZmllcg=="]},
    }
    optional = {"Upload-Checksum", "Upload-Metadata"}
    return {
        "parameters": [
            {
                "name": name,
                "in": "header",
                "required": required and name not in optional,
                "schema": schemas[name],
            }
            for name in ("Tus-Resumable", *more)
        ]
    }


_PIECE = {OFFSET_OCTETS: {"schema": {"type": "string", "format": "binary"}}}


def render(failure: Failure, path: str) -> Response:
    """Problem details, with the header that every answer of tus has."""
    answer = problem_details.render(failure, path)
    answer.headers.update(SPOKEN)
    return answer


@open_router.options("", status_code=204)
@open_router.options("/{id}", status_code=204, include_in_schema=False)
async def describe_uploads(yard: ServicesDep) -> Response:
    """What this server can do. No token is needed."""
    can = {
        "Tus-Version": tus.VERSION,
        "Tus-Extension": tus.EXTENSIONS,
        "Tus-Max-Size": str(yard.settings.upload_max_bytes),
        "Tus-Checksum-Algorithm": ",".join(tus.ALGORITHMS),
    }
    return Response(None, 204, SPOKEN | can)


class UploadView(Shape):
    """An upload as callers see it."""

    id: str
    name: str | None
    """Of the image, or of the model that it is for; None: like the chosen RepoTag."""
    created_at: datetime
    offset: int
    length: int
    percentage: int
    status: str
    """receiving, ingesting, completed or failed."""
    image: UploadedImage | None
    message: str | None
    technicalInformation: str | None


@router.post(
    "",
    status_code=201,
    response_class=Response,
    dependencies=TUS,
    openapi_extra=_headers("Upload-Length", "Upload-Metadata"),
    responses=documented(400, 404, 409, 412, 413, 422, 503, 507),
)
async def create_upload(
    caller: Writer,
    yard: ServicesDep,
    upload_length: Undocumented = None,
    upload_metadata: Undocumented = None,
    upload_concat: Undocumented = None,
    upload_defer_length: Undocumented = None,
) -> Response:
    """Begin an upload of `Upload-Length` bytes.

    `Upload-Metadata`: `model` and `version` deliver the image to that version of a model;
    otherwise it is called `name`, or like the chosen RepoTag. Optional: `filename`, `repoTag`,
    `platform`.
    """
    if upload_concat is not None or upload_defer_length is not None:
        raise MalformedRequest(
            "Uploads are neither joined (Upload-Concat) nor begun without their length"
            " (Upload-Defer-Length): send one upload with its Upload-Length."
        )
    length = tus.count(upload_length, "Upload-Length")
    uploads = yard.uploads.service
    wish = UploadWish(**tus.wish(upload_metadata))
    upload = await uploads.create(caller, wish, length, upload_metadata)
    headers = {"Location": f"{PREFIX}/{upload.uuid}", "Upload-Offset": "0"}
    return Response(None, 201, SPOKEN | headers | _expiry(uploads, upload))


_LAYERS = {"two layers": {"value": {"digests": [f"sha256:{digit * 64}" for digit in "ab"]}}}


@router.get(
    "",
    dependencies=[Depends(_speaks_nothing_else)],
    openapi_extra=_headers(required=False),
    responses={200: {"model": PageView[UploadView]}, **documented(412, 422)},
)
async def list_uploads(
    request: Request, caller: Viewer, yard: ServicesDep, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """Uploads of the organisation, newest first, until they are given up or expire."""
    uploads = yard.uploads.service

    def show(upload: Upload, caller: Principal) -> bytes:
        return _view(upload, uploads.offset(upload)).model_dump_json().encode()

    found = await uploads.list(caller, limit=limit, cursor=cursor)
    return page_response(found, show, request=request, caller=caller)


@router.post("/present", responses=documented(400, 413, 415, 422, 502))
async def present_layers(
    asked: Annotated[DigestList, Body(openapi_examples=_LAYERS)], caller: Writer, yard: ServicesDep
) -> PresentBlobs:
    """Which of these layers the organisation has sent before, so that they can be left out."""
    found = await yard.images.ingest.present(caller.org, asked.digests)
    blobs = [PresentBlob(digest=digest, size=size) for digest, size in found.items()]
    return PresentBlobs(present=blobs)


@router.head(
    "/{id}",
    response_class=Response,
    dependencies=TUS,
    openapi_extra=_headers(),
    responses=documented(404, 410, 412),
)
async def locate_upload(id: str, caller: Writer, yard: ServicesDep) -> Response:
    """Where to go on."""
    uploads = yard.uploads.service
    upload = await uploads.get(caller, id)
    await uploads.at_rest(upload)
    headers = {
        "Upload-Offset": str(uploads.offset(upload)),
        "Upload-Length": str(upload.length),
        "Cache-Control": "no-store",
    }
    if metadata := upload.metadata or tus.metadata(upload.wish.model_dump()):
        headers["Upload-Metadata"] = metadata
    return Response(None, 200, SPOKEN | headers | _expiry(uploads, upload))


@router.get(
    "/{id}",
    dependencies=[Depends(_speaks_nothing_else)],
    openapi_extra=_headers(required=False),
    responses=documented(404, 410, 412),
)
async def get_upload(id: str, caller: Viewer, yard: ServicesDep, response: Response) -> UploadView:
    """How far it is, and what became of it."""
    uploads = yard.uploads.service
    response.headers.update(SPOKEN | {"Cache-Control": "no-store"})
    upload = await uploads.get(caller, id)
    return _view(upload, uploads.offset(upload))


@router.patch(
    "/{id}",
    status_code=204,
    dependencies=TUS,
    openapi_extra=_headers("Upload-Offset", "Upload-Checksum")
    | {"requestBody": {"required": True, "content": _PIECE}},
    responses=documented(400, 404, 408, 409, 410, 412, 413, 415, 460, 503, 507),
)
@streams_body
async def continue_upload(
    id: str,
    request: Request,
    caller: Writer,
    yard: ServicesDep,
    upload_offset: Undocumented = None,
    upload_checksum: Undocumented = None,
) -> Response:
    """Append the body at `Upload-Offset`. What arrived before a cut is kept.

    With `Upload-Checksum` the bytes count only once they are proved (460 when they are not).
    """
    if request.headers.get("content-type", "").lower() != OFFSET_OCTETS:
        raise HTTPException(415, f"Send the bytes as {OFFSET_OCTETS}.")
    uploads = yard.uploads.service
    declared = request.headers.get("content-length")
    appended = uploads.append(
        caller,
        id,
        offset=tus.count(upload_offset, "Upload-Offset"),
        length=None if declared is None else tus.count(declared, "Content-Length"),
        checksum=tus.checksum(upload_checksum),
    )
    async with _while_serving(request), appended as appending:
        async for chunk in body(request, silence_s=yard.settings.upload_silence_s):
            await appending.write(chunk)
    upload = await uploads.get(caller, id)
    headers = {"Upload-Offset": str(appending.offset)}
    return Response(None, 204, SPOKEN | headers | _expiry(uploads, upload))


@router.delete(
    "/{id}",
    status_code=204,
    dependencies=TUS,
    openapi_extra=_headers(),
    responses=documented(404, 410, 412),
)
async def delete_upload(id: str, caller: Writer, yard: ServicesDep) -> Response:
    """Give it up, with all its bytes."""
    await yard.uploads.service.delete(caller, id)
    return Response(None, 204, SPOKEN)


@asynccontextmanager
async def _while_serving(request: Request) -> AsyncIterator[None]:
    """Ends the flow when the server stops, or the sender does: what came by then is kept."""
    draining: asyncio.Event = request.app.state.draining
    async with asyncio.timeout(None) as flow:
        watch = asyncio.create_task(_cut(draining, flow))
        try:
            yield
        except TarTruncated as error:
            # Whatever follows on this connection belongs to a request that is over.
            raise HTTPException(408, error.message, {"Connection": "close"}) from None
        except asyncio.CancelledError:
            if draining.is_set():
                why = "The server stops: go on from where it is."
                raise HTTPException(503, why, {"Connection": "close"}) from None
            raise
        finally:
            await concurrency.cancel_and_wait(watch)


async def _cut(draining: asyncio.Event, flow: asyncio.Timeout) -> None:
    await draining.wait()
    flow.reschedule(asyncio.get_running_loop().time())


def _expiry(uploads: Uploads, upload: Upload) -> dict[str, str]:
    at: datetime = uploads.expires_at(upload)
    return {"Upload-Expires": format_datetime(at, usegmt=True)}


def _view(upload: Upload, offset: int) -> UploadView:
    is_complete = upload.status is UploadStatus.COMPLETED
    return UploadView(
        id=upload.uuid,
        name=upload.wish.name or upload.wish.model,
        created_at=upload.created_at,
        offset=offset,
        length=upload.length,
        percentage=100 if is_complete else progress.percentage(offset, upload.length),
        status=upload.status.value.lower(),
        image=upload.result,
        message=upload.reason,
        technicalInformation=upload.technical,
    )
