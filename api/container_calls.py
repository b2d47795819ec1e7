"""`/yard/v1/containers/{uuid}/run`: calls are passed on to the model, and its answers back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response
from starlette.types import Receive

from api.answers import problems
from api.auth import GuardedRoute
from api.bodies import streams_body
from api.containers import Runner
from api.deps import Yard
from api.streams import BrokenOff, Stream
from pipeline.adapters.http_calls import Called
from pipeline.errors import CallFailed, MalformedRequest

router = APIRouter(prefix="/yard/v1/containers", tags=["containers"], route_class=GuardedRoute)

ANYTHING = "*/*"
PASSED = ("content-length", "content-encoding", "content-language", "content-disposition")
"""What of an answer's headers is passed on, besides its content type."""
SANDBOX = {"Content-Security-Policy": "sandbox"}
"""An answer is a stranger's: a browser must never take it for a page of ours."""

_BINARY = {"content": {ANYTHING: {"schema": {"type": "string", "format": "binary"}}}}


@router.post(
    "/{uuid}/run",
    response_class=Response,
    responses={
        200: {"description": "What the model answered, with its own status and type.", **_BINARY},
        **problems(400, 404, 409, 422, 502, 503, 504),
    },
    openapi_extra={"requestBody": {"description": "Whatever the model takes.", **_BINARY}},
)
@streams_body
async def call_container(
    request: Request,
    uuid: str,
    caller: Runner,
    yard: Yard,
    timeout: Annotated[
        float | None,
        Query(gt=0, description="Seconds for the whole call; never more than the setting."),
    ] = None,
) -> Response:
    """Pass a call on to the `POST /run` of a container that runs.

    Body, content type and status pass through unchanged and piece by piece, in both directions and
    at any size. Answers of ours are problem details: 409 for a container that does not run, 502
    when nothing listens in it or it does not speak HTTP, 504 when it takes too long.
    """
    upload = _Upload(request)
    async with AsyncExitStack() as stack:
        called = await stack.enter_async_context(
            yard.calls.run(
                caller, uuid, headers=upload.headers, content=upload.pieces(), timeout_s=timeout
            )
        )
        return _Answer(called, upload, stack.pop_all())


class _Upload:
    """The body of a request, read by whoever passes it on."""

    def __init__(self, request: Request) -> None:
        self._receive = request.receive
        self._over = asyncio.Event()
        self._has_left = False
        self.headers = dict(request.headers)
        if "transfer-encoding" not in self.headers:
            self.headers.setdefault("content-length", "0")

    async def pieces(self) -> AsyncGenerator[bytes]:
        """Raises MalformedRequest when the caller leaves before the end."""
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._has_left = True
                self._over.set()
                raise MalformedRequest("The caller left before the end of the body.")
            more = message.get("more_body", False)
            if not more:
                self._over.set()
            yield message.get("body", b"")

    async def until_gone(self) -> None:
        """Returns once the caller has hung up."""
        await self._over.wait()
        while not self._has_left:
            self._has_left = (await self._receive())["type"] == "http.disconnect"


class _Answer(Stream):
    def __init__(self, called: Called, upload: _Upload, held: AsyncExitStack) -> None:
        self._upload = upload
        given = {name: called.headers[name] for name in PASSED if name in called.headers}
        kind = called.headers.get("content-type")
        if kind is not None:
            given["content-type"] = kind
        super().__init__(
            _pieces(called), None, status=called.status, headers=given | SANDBOX, held=held
        )

    async def until_gone(self, receive: Receive) -> None:
        await self._upload.until_gone()


async def _pieces(called: Called) -> AsyncGenerator[bytes]:
    try:
        async for piece in called.pieces:
            yield piece
    except (CallFailed, MalformedRequest) as error:
        # The status is sent already.
        raise BrokenOff from error
