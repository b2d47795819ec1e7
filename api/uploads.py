"""`/yard/v1/uploads`: tus 1.0.0 with creation, termination, checksum and expiration."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from email.utils import format_datetime
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Header, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api import problems
from api.answers import problems as documented
from api.archive_bodies import body
from api.auth import GuardedRoute, OpenRoute, needs
from api.bodies import streams_body
from api.deps import Yard
from api.problems import Failure
from pipeline import tasks
from pipeline.core.uploads import Uploads
from pipeline.errors import TarTruncated
from pipeline.rules import references, tus
from schemas.access import Permission, Principal
from schemas.upload import DigestList, PresentBlob, PresentBlobs, Upload, UploadView

PREFIX = "/yard/v1/uploads"
OFFSET_OCTETS = "application/offset+octet-stream"
SPOKEN = {"Tus-Resumable": tus.VERSION}

router = APIRouter(prefix=PREFIX, tags=["uploads"], route_class=GuardedRoute)
open_router = APIRouter(prefix=PREFIX, tags=["uploads"], route_class=OpenRoute)

Writer = Annotated[Principal, needs(Permission.IMAGE_WRITE)]
Viewer = Annotated[Principal, needs(Permission.IMAGE_VIEW)]


async def _speaks_tus(tus_resumable: Annotated[str | None, Header()] = None) -> None:
    if tus_resumable != tus.VERSION:
        raise HTTPException(
            412, f"Send the header Tus-Resumable: {tus.VERSION}.", {"Tus-Version": tus.VERSION}
        )


async def _speaks_nothing_else(tus_resumable: Annotated[str | None, Header()] = None) -> None:
    if tus_resumable is not None:
        await _speaks_tus(tus_resumable)


TUS = [Depends(_speaks_tus)]


def render(failure: Failure, path: str) -> Response:
    """Problem details, with the header that every answer of tus has."""
    answer = problems.render(failure, path)
    answer.headers.update(SPOKEN)
    return answer


@open_router.options("", status_code=204)
@open_router.options("/{id}", status_code=204, include_in_schema=False)
async def describe_uploads(yard: Yard) -> Response:
    """What this server can do. No token is needed."""
    can = {
        "Tus-Version": tus.VERSION,
        "Tus-Extension": tus.EXTENSIONS,
        "Tus-Max-Size": str(yard.settings.upload_max_bytes),
        "Tus-Checksum-Algorithm": ",".join(tus.ALGORITHMS),
    }
    return Response(None, 204, SPOKEN | can)


@router.post(
    "", status_code=201, dependencies=TUS, responses=documented(400, 404, 412, 413, 422, 503, 507)
)
async def create_upload(
    caller: Writer,
    yard: Yard,
    upload_length: Annotated[str | None, Header()] = None,
    upload_metadata: Annotated[str | None, Header()] = None,
) -> Response:
    """Begin an upload of `Upload-Length` bytes.

    `Upload-Metadata`: `model` and `version` deliver the image to that version of a model;
    otherwise it is called `name`, or like the chosen RepoTag. Optional: `filename`, `repoTag`,
    `platform`.
    """
    length = tus.count(upload_length, "Upload-Length")
    uploads = yard.uploading.uploads
    upload = await uploads.create(caller, tus.wish(upload_metadata), length)
    headers = {"Location": f"{PREFIX}/{upload.uuid}", "Upload-Offset": "0"}
    return Response(None, 201, SPOKEN | headers | _expiry(uploads, upload))


@router.post("/present", responses=documented(400, 413, 422, 502))
async def present_layers(
    asked: Annotated[DigestList, Body()], caller: Writer, yard: Yard
) -> PresentBlobs:
    """Which of these layers the organisation has sent before, so that they can be left out."""
    for digest in asked.digests:
        references.require_digest(digest)
    found = await yard.uploading.ingest.present(caller.org, asked.digests)
    blobs = [PresentBlob(digest=digest, size=size) for digest, size in found.items()]
    return PresentBlobs(present=blobs)


@router.head("/{id}", dependencies=TUS, responses=documented(404, 410, 412))
async def locate_upload(id: str, caller: Writer, yard: Yard) -> Response:
    """Where to go on."""
    uploads = yard.uploading.uploads
    upload = await uploads.get(caller, id)
    await uploads.at_rest(upload)
    headers = {
        "Upload-Offset": str(uploads.offset(upload)),
        "Upload-Length": str(upload.length),
        "Cache-Control": "no-store",
    }
    if metadata := tus.metadata(upload.wish):
        headers["Upload-Metadata"] = metadata
    return Response(None, 200, SPOKEN | headers | _expiry(uploads, upload))


@router.get(
    "/{id}", dependencies=[Depends(_speaks_nothing_else)], responses=documented(404, 410, 412)
)
async def get_upload(id: str, caller: Viewer, yard: Yard, response: Response) -> UploadView:
    """How far it is, and what became of it."""
    uploads = yard.uploading.uploads
    response.headers.update(SPOKEN | {"Cache-Control": "no-store"})
    return uploads.view(await uploads.get(caller, id))


@router.patch(
    "/{id}",
    status_code=204,
    dependencies=TUS,
    responses=documented(400, 404, 408, 409, 410, 412, 413, 415, 460, 503, 507),
)
@streams_body
async def continue_upload(
    id: str,
    request: Request,
    caller: Writer,
    yard: Yard,
    upload_offset: Annotated[str | None, Header()] = None,
    upload_checksum: Annotated[str | None, Header()] = None,
) -> Response:
    """Append the body at `Upload-Offset`. What arrived before a cut is kept.

    With `Upload-Checksum` the bytes count only once they are proved (460 when they are not).
    """
    if request.headers.get("content-type", "").lower() != OFFSET_OCTETS:
        raise HTTPException(415, f"Send the bytes as {OFFSET_OCTETS}.")
    uploads = yard.uploading.uploads
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


@router.delete("/{id}", status_code=204, dependencies=TUS, responses=documented(404, 410, 412))
async def delete_upload(id: str, caller: Writer, yard: Yard) -> Response:
    """Give it up, with all its bytes."""
    await yard.uploading.uploads.delete(caller, id)
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
            await tasks.end(watch)


async def _cut(draining: asyncio.Event, flow: asyncio.Timeout) -> None:
    await draining.wait()
    flow.reschedule(asyncio.get_running_loop().time())


def _expiry(uploads: Uploads, upload: Upload) -> dict[str, str]:
    at: datetime = uploads.expires_at(upload)
    return {"Upload-Expires": format_datetime(at, usegmt=True)}
