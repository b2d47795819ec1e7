"""`/yard/v1/containers/{uuid}/logs`: what a container wrote, also as it writes."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import APIRouter, Header, Query, Request
from pydantic import AwareDatetime
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api.answers import problems
from api.auth import GuardedRoute, needs
from api.deps import Yard
from api.pump import Pump
from api.streams import EVENT_STREAM, BrokenOff, Stream
from pipeline.core.logs import LogEntry
from pipeline.errors import YardError
from pipeline.rules import sse
from schemas.access import Permission, Principal

log = logging.getLogger(__name__)

router = APIRouter(prefix="/yard/v1/containers", tags=["containers"], route_class=GuardedRoute)

HEARTBEAT_S = 15.0
FIRST_S = 2.0
"""A node that has refused nothing within this time is taken to have accepted."""
TEXT, LINES = "text/plain", "application/x-ndjson"


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
        **problems(404, 409, 422, 503),
    },
)
async def read_logs(
    request: Request,
    uuid: str,
    caller: Annotated[Principal, needs(Permission.LOG_VIEW)],
    yard: Yard,
    tail: Annotated[int | None, Query(ge=0, le=100_000, description="Last lines.")] = 100,
    since: Annotated[AwareDatetime | None, Query(description="Nothing older.")] = None,
    follow: Annotated[bool, Query(description="Go on as it writes, until it ends.")] = False,
    accept: Annotated[str | None, Header()] = None,
) -> Response:
    """Output of a container, read from the node that runs it.

    As plain text, or by `Accept` as JSON lines (`application/x-ndjson`, with an empty line every
    15 seconds of silence) or as Server-Sent Events, which end with an event called `end`, or with
    `bye` when it is the server that stops: then ask again, with `since`.
    """
    shape = _shape(accept or TEXT)
    entries = cast(
        AsyncGenerator[LogEntry],
        yard.logs.read(caller, uuid, tail=tail, since=since, follow=follow),
    )
    async with AsyncExitStack() as stack:
        pump = await stack.enter_async_context(Pump(entries, request.app.state.draining))
        first = await pump.take(FIRST_S)
        chunks = _chunks(pump, first, shape)
        return Stream(chunks, f"{shape.media_type}; charset=utf-8", held=stack.pop_all())


@dataclass(frozen=True, slots=True)
class _Shape:
    """How entries are written in one media type."""

    media_type: str
    entry: Callable[[LogEntry], bytes]
    beat: bytes = b""
    end: bytes = b""
    bye: bytes = b""


def _text(entry: LogEntry) -> bytes:
    return entry.text.encode()


def _line(entry: LogEntry) -> bytes:
    return entry.model_dump_json().encode() + b"\n"


def _event(entry: LogEntry) -> bytes:
    return b"event: log\ndata: " + entry.model_dump_json().encode() + b"\n\n"


_SHAPES = (
    _Shape(TEXT, _text),
    _Shape(LINES, _line, beat=b"\n"),
    _Shape(
        EVENT_STREAM,
        _event,
        beat=b": still here\n\n",
        end=sse.control_frame("end", {}),
        bye=sse.control_frame("bye", {"reason": "The server is stopping."}),
    ),
)


def _shape(accept: str) -> _Shape:
    """The first that is named; raises 406 when none of ours is."""
    wanted = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    for name in wanted:
        for shape in _SHAPES:
            if name in (shape.media_type, "*/*", shape.media_type.partition("/")[0] + "/*"):
                return shape
    offered = ", ".join(shape.media_type for shape in _SHAPES)
    raise HTTPException(406, f"Logs can be had as {offered}.")


async def _chunks(
    pump: Pump[LogEntry], first: list[LogEntry], shape: _Shape
) -> AsyncGenerator[bytes]:
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
