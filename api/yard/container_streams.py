"""What flows to and from a container: calls of its model (`/run`), what it writes (`/logs`), and
commands in it (`/exec`)."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, cast

from fastapi import APIRouter, Header, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive

from api.http.answers import Since, end_to_end
from api.http.auth import GuardedRoute, ServicesDep, needs
from api.http.bodies import streams_body
from api.http.problem_details import problems
from api.http.streams import EVENT_STREAM, BrokenOff, Pump, Stream
from api.yard.containers import Runner
from pipeline.adapters.http.streaming import StreamedAnswer
from pipeline.containers.agent_requests import ExecEnd, ExecEntry, ExecOutput, ExecSpec, LogEntry
from pipeline.errors import CallFailed, MalformedRequest, YardError
from pipeline.events import sse
from schemas.access import Permission, Principal

router = APIRouter(prefix="/yard/v1/containers", tags=["containers"], route_class=GuardedRoute)

log = logging.getLogger(__name__)
T = TypeVar("T")

SANDBOX = {"Content-Security-Policy": "sandbox"}
"""An answer is a stranger's: a browser must never take it for a page of ours."""

_BINARY = {"content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}}


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
    yard: ServicesDep,
    timeout: Annotated[
        float | None,
        Query(gt=0, description="Seconds for the whole call; never more than the setting."),
    ] = None,
) -> Response:
    """Pass a call on to the `POST /run` of a container that runs.

    Body, content type and status pass through unchanged and piece by piece, in both directions and
    at any size, and so do the end-to-end headers of the answer. Answers of ours are problem
    details: 409 for a container that does not run, 502 when nothing listens in it or it does not
    speak HTTP, 504 when it takes too long.
    """
    upload = _Upload(request)
    async with AsyncExitStack() as stack:
        called = await stack.enter_async_context(
            yard.models.passthrough.run(
                caller, uuid, headers=upload.headers, content=upload.pieces(), timeout_s=timeout
            )
        )
        cookies = yard.settings.model_cookies
        return _Answer(called, upload, stack.pop_all(), cookies=cookies)


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
    def __init__(
        self, called: StreamedAnswer, upload: _Upload, held: AsyncExitStack, *, cookies: bool
    ) -> None:
        self._upload = upload
        super().__init__(_pieces(called), None, status=called.status, headers=SANDBOX, held=held)
        ours = {name for name, _ in self.raw_headers}
        self.raw_headers += end_to_end(called.headers.raw, ours, cookies=cookies)

    async def until_gone(self, receive: Receive) -> None:
        await self._upload.until_gone()


async def _pieces(called: StreamedAnswer) -> AsyncGenerator[bytes]:
    try:
        async for piece in called.pieces:
            yield piece
    except (CallFailed, MalformedRequest) as error:
        # The status is sent already.
        raise BrokenOff from error


HEARTBEAT_S = 15.0
FIRST_S = 2.0
"""A node that has refused nothing within this time is taken to have accepted."""
TEXT, LINES = "text/plain", "application/x-ndjson"
_QUALITY = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?")


@router.get(
    "/{uuid}/logs",
    response_class=Response,
    responses={
        200: {
            "description": "Oldest first. JSON lines hold `stream`, `time` and `text`.",
            "content": {
                TEXT: {"schema": {"type": "string"}},
                LINES: {"schema": LogEntry.model_json_schema()},
                EVENT_STREAM: {"schema": {"type": "string"}},
            },
        },
        **problems(404, 406, 409, 422, 503),
    },
)
async def read_logs(
    request: Request,
    uuid: str,
    caller: Annotated[Principal, needs(Permission.LOG_VIEW)],
    yard: ServicesDep,
    tail: Annotated[int | None, Query(ge=0, le=100_000, description="Last lines.")] = 100,
    since: Annotated[Since | None, Query(description="Nothing older.")] = None,
    follow: Annotated[bool, Query(description="Go on as it writes, until it ends.")] = False,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response:
    """Output of a container, read from the node that runs it; where that is away or the container
    is deleted, what is kept of it, without control characters.

    As plain text, or by `Accept` as JSON lines (`application/x-ndjson`, with an empty line every
    15 seconds of silence) or as Server-Sent Events, which end with an event called `end`, or with
    `bye` when it is the server that stops: then ask again, with `since`.
    """
    shape = _shape(accept or TEXT)
    entries = cast(
        AsyncGenerator[LogEntry],
        yard.containers.logs.read(caller, uuid, tail=tail, since=since, follow=follow),
    )
    async with AsyncExitStack() as stack:
        pump = await stack.enter_async_context(Pump(entries, request.app.state.draining))
        first = await pump.take(FIRST_S)
        chunks = _chunks(pump, first, shape)
        return Stream(chunks, f"{shape.media_type}; charset=utf-8", held=stack.pop_all())


@router.post(
    "/{uuid}/exec",
    response_class=Response,
    responses={
        200: {
            "description": "JSON lines: what it writes, as `stream` and `text`, and at the end its"
            " `exit_code`, with `timed_out` when it was killed because its time was over.",
            "content": {
                LINES: {
                    "schema": {
                        "oneOf": [ExecOutput.model_json_schema(), ExecEnd.model_json_schema()]
                    }
                }
            },
        },
        **problems(400, 404, 409, 413, 415, 422, 503),
    },
)
async def run_command(
    request: Request,
    uuid: str,
    spec: ExecSpec,
    caller: Annotated[Principal, needs(Permission.CONTAINER_EXEC)],
    yard: ServicesDep,
) -> Response:
    """Run a command in a container that runs, and pass on what it writes while it writes it.

    It is killed when its time is over or the caller hangs up; that takes a shell in the container.
    An answer that ends without an exit code was cut off. There is an empty line every 15 seconds of
    silence. Command and exit code are events of the container; output is not kept.
    """
    entries = yard.containers.exec.run(caller, uuid, spec)
    async with AsyncExitStack() as stack:
        pump = await stack.enter_async_context(Pump(entries, request.app.state.draining))
        first = await pump.take(FIRST_S)
        return Stream(_chunks(pump, first, _LINES), LINES, held=stack.pop_all())


@dataclass(frozen=True, slots=True)
class _Shape:
    """How entries are written in one media type."""

    media_type: str
    entry: Callable[[Any], bytes]
    beat: bytes = b""
    end: bytes = b""
    bye: bytes = b""


def _text(entry: LogEntry) -> bytes:
    return entry.text.encode()


def _line(entry: LogEntry | ExecEntry) -> bytes:
    return entry.model_dump_json().encode() + b"\n"


def _event(entry: LogEntry) -> bytes:
    return b"event: log\ndata: " + entry.model_dump_json().encode() + b"\n\n"


_LINES = _Shape(LINES, _line, beat=b"\n")
_SHAPES = (
    _Shape(TEXT, _text),
    _LINES,
    _Shape(
        EVENT_STREAM,
        _event,
        beat=b": still here\n\n",
        end=sse.control_frame("end", {}),
        bye=sse.control_frame("bye", {"reason": "The server is stopping."}),
    ),
)


def _shape(accept: str) -> _Shape:
    """What is wanted most, and of those the first that is named; raises 406 for none of ours.

    A type's own wish counts before `text/*`, and that before `*/*` (RFC 9110, 12.5.1).
    """
    wishes = list(map(_wish, accept.split(",")))
    wanted = [(*_wanted(shape.media_type, wishes), shape) for shape in _SHAPES]
    quality, _, best = max(wanted, key=lambda each: each[:2])
    if quality <= 0:
        offered = ", ".join(shape.media_type for shape in _SHAPES)
        raise HTTPException(406, f"Logs can be had as {offered}.")
    return best


def _wish(text: str) -> tuple[str, float]:
    """A media range and its quality."""
    name, *parameters = (part.strip().lower() for part in text.split(";"))
    quality = next((each[2:] for each in parameters if each.startswith("q=")), "1")
    return name, float(quality) if _QUALITY.fullmatch(quality) else 0.0


def _wanted(media_type: str, wishes: list[tuple[str, float]]) -> tuple[float, int]:
    """How much it is wanted, and minus how late it is named."""
    names = [name for name, _ in wishes]
    for name in (media_type, media_type.partition("/")[0] + "/*", "*/*"):
        if name in names:
            at = names.index(name)
            return wishes[at][1], -at
    return 0.0, 0


async def _chunks(pump: Pump[T], first: list[T], shape: _Shape) -> AsyncGenerator[bytes]:
    if first:
        yield b"".join(map(shape.entry, first))
    try:
        while not pump.ended:
            entries = await pump.take(HEARTBEAT_S)
            chunk = b"".join(map(shape.entry, entries)) or (b"" if pump.ended else shape.beat)
            if chunk:
                yield chunk
    except YardError as error:
        # The status is sent already. What comes after the break is asked for with `since`.
        log.warning("A log stream broke off: %s", error.message)
        if shape.media_type == EVENT_STREAM:
            yield sse.control_frame("error", {"code": error.code, "detail": error.message})
            return
        raise BrokenOff from error
    if last := shape.bye if pump.cut else shape.end:
        yield last
