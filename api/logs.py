"""`/yard/v1/containers/{uuid}/logs`: what a container wrote, also as it writes."""

from __future__ import annotations

import logging
import re
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
