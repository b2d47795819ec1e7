"""What containers wrote, in the words of the container service: listed, followed, summed up."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Header, Query, Request
from pydantic import AwareDatetime, BaseModel, Field
from starlette.responses import Response

from api.container_svc.answers import body_of, failures, json_answer, read
from api.container_svc.nodes import PREFIX, NodeId, node_of
from api.container_svc.run_request import Part, Text, Whole
from api.http.answers import Since
from api.http.auth import GuardedRoute, ServicesDep, needs
from api.http.streams import EVENT_STREAM, Pump, Stream
from pipeline.bootstrap.control_plane import Services
from pipeline.errors import YardError
from pipeline.events import sse
from pipeline.logs.chunks import LogChunk
from pipeline.logs.service import LogFilter
from schemas.access import Permission, Principal
from schemas.container import Container

log = logging.getLogger(__name__)

router = APIRouter(prefix=PREFIX, tags=["container service"], route_class=GuardedRoute)

LogViewer = Annotated[Principal, needs(Permission.LOG_VIEW)]
HEARTBEAT_S: Final = 15.0
ID_MAX: Final = 128


class LogsRequest(Part):
    nodeId: Text = ""
    containerId: Text = ""
    limit: Whole = Field(default=100, ge=1, le=1000)
    cursor: Text = ""
    contains: Text = ""
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    stream: Literal["stdout", "stderr"] | None = None


class LogObject(BaseModel):
    id: str
    nodeId: str
    containerId: str
    createdAt: str
    content: str


class Logs(BaseModel):
    logs: list[LogObject]
    nextCursor: str | None = None


@router.post(
    "/logs",
    responses={200: {"model": Logs}, **failures(400, 404)},
    openapi_extra=body_of({"containerId": "4f1c…", "contains": "error", "limit": 100}),
)
async def list_logs(request: Request, caller: LogViewer, services: ServicesDep) -> Response:
    """What containers wrote, newest first, in the pieces in which it is kept."""
    asked = await read(request, LogsRequest)
    node = await node_of(services, caller, asked.nodeId)
    which = LogFilter(
        engine_id=asked.containerId or None,
        node=None if node is None else node.uuid,
        stream=asked.stream,
        contains=asked.contains or None,
        since=asked.since,
        until=asked.until,
    )
    page = await services.logs.service.list(
        caller, which, limit=asked.limit, cursor=asked.cursor or None
    )
    body: dict[str, Any] = {"logs": [_shown(each) for each in page.items]}
    return json_answer(body | ({"nextCursor": page.next} if page.next else {}))


@router.get(
    "/logs/follow",
    response_class=Response,
    responses={
        200: {
            "description": "Server-Sent Events: `log`, with a log object as its data. The id of the"
            " last one in `Last-Event-ID` goes on behind it.",
            "content": {EVENT_STREAM: {"schema": {"type": "string"}}},
        },
        **failures(400, 404),
    },
)
async def follow_logs(
    request: Request,
    caller: LogViewer,
    services: ServicesDep,
    containerId: Annotated[str, Query(description="Only of this container.")] = "",
    nodeId: NodeId = "",
    contains: Annotated[str, Query(description="Only what has this text in it.")] = "",
    since: Annotated[Since | None, Query(description="Begin then.")] = None,
    last_event_id: Annotated[str | None, Header(max_length=ID_MAX)] = None,
) -> Response:
    """What containers write, while they write it."""
    node = await node_of(services, caller, nodeId)
    which = LogFilter(
        engine_id=containerId or None,
        node=None if node is None else node.uuid,
        contains=contains or None,
        since=since,
    )
    chunks = services.logs.service.follow(caller, which, after=last_event_id or None)
    async with AsyncExitStack() as stack:
        pump = await stack.enter_async_context(Pump(chunks, request.app.state.draining))
        return Stream(_events(pump), f"{EVENT_STREAM}; charset=utf-8", held=stack.pop_all())


async def _events(pump: Pump[LogChunk]) -> AsyncGenerator[bytes]:
    yield b": following\n\n"
    try:
        while not pump.ended:
            found = await pump.take(HEARTBEAT_S)
            if not pump.ended:
                yield b"".join(map(_event, found)) or b": still here\n\n"
    except YardError as error:
        # The status is sent already.
        log.warning("A log stream broke off: %s", error.message)
        yield sse.control_frame("error", {"error": error.message, "code": error.code})


def _event(chunk: LogChunk) -> bytes:
    return f"event: log\nid: {chunk.id}\ndata: {json.dumps(_shown(chunk))}\n\n".encode()


def _shown(chunk: LogChunk) -> dict[str, str]:
    return {
        "id": chunk.id,
        "nodeId": chunk.node,
        "containerId": chunk.engine_id,
        "createdAt": chunk.created_at,
        "content": chunk.text,
    }


async def last_lines(
    services: Services, caller: Principal, container: Container, lines: int
) -> str:
    """Of all its runs, as they are kept; oldest first."""
    found: list[str] = []
    which, cursor, missing = LogFilter(container=container.uuid), None, lines
    while missing > 0:
        page = await services.logs.service.list(caller, which, limit=1000, cursor=cursor)
        for chunk in page.items:
            found.append(chunk.text)
            missing -= max(1, chunk.text.count("\n"))
            if missing <= 0:
                break
        cursor = page.next
        if cursor is None:
            break
    whole = "".join(reversed(found)).splitlines(keepends=True)
    return "".join(whole[-lines:])
