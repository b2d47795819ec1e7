"""`/yard/v1/events`: what happens, as Server-Sent Events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from api.answers import problems
from api.auth import GuardedRoute, admit, needs
from api.deps import Hub
from api.streams import EVENT_STREAM, Stream
from pipeline.core.event_lanes import Wanted
from pipeline.core.event_readers import Reader
from pipeline.errors import InvalidInput, PermissionDenied, Unauthenticated, YardError
from pipeline.rules import sse, topology
from schemas.access import Permission, Principal
from schemas.base import every_record

router = APIRouter(prefix="/yard/v1/events", tags=["events"], route_class=GuardedRoute)

log = logging.getLogger(__name__)

HEARTBEAT_S = 15.0
ADMIT_EVERY_S = 60.0
"""How often the token is looked at again: a stream outlives neither its expiry nor its end."""

_EXAMPLE = """\
retry: 1050
id: 5f0c2a-41

id: 5f0c2a-42
data: {"specversion":"1.0","id":"0b9c….2.ready","source":"modelyard",\
"type":"modelyard.image.ready","time":"2026-05-01T12:00:00.123Z","subject":"0b9c…",\
"datacontenttype":"application/json","actor":"worker:validation","resource":"image",\
"kind":"ready","sequence":42,"data":{"id":"0b9c…","name":"classifier","status":"READY"}}

"""


@router.get(
    "",
    response_class=Response,
    responses={
        200: {
            "description": "Frames until somebody hangs up.",
            "content": {EVENT_STREAM: {"schema": {"type": "string"}, "example": _EXAMPLE}},
        },
        **problems(422, 503),
    },
)
async def follow_events(
    request: Request,
    caller: Annotated[Principal, needs(Permission.EVENT_VIEW)],
    hub: Hub,
    resource: Annotated[
        list[str] | None, Query(description="Only of these: `image`, `container` …")
    ] = None,
    id: Annotated[list[str] | None, Query(description="Only of these records, by uuid.")] = None,
    kind: Annotated[
        str | None,
        Query(
            description="Only this kind, or kinds that begin so: `pull`, `pull.progressed`.",
            pattern=topology.KIND,
        ),
    ] = None,
    last_event_id: Annotated[
        str | None, Header(description="Resume after this event. Clients send it by themselves.")
    ] = None,
    after: Annotated[
        str | None,
        Query(alias="last_event_id", description="The same, for those who cannot set headers."),
    ] = None,
) -> Response:
    """Every event of the organisation, from now on or from a given event on, in order, once.

    Events have no SSE name; their data is a CloudEvent. Named frames are about the stream:
    `reset` (the id cannot be resumed: `reason` says why, the oldest event follows), `overflow`
    (the reader was too slow) and `bye` (the server stops, or the token has ended). After the last
    two the stream ends; a client that comes back with the last id misses nothing. A comment every
    15 seconds shows that the stream is alive.
    """
    wanted = Wanted(_resources(resource or ()), frozenset(id or ()), kind or None)
    async with AsyncExitStack() as stack:
        # Entered here, so that a failure is an answer of its own and not a broken stream.
        reader = await stack.enter_async_context(
            hub.subscribe(caller.org, wanted, after=last_event_id or after or None)
        )
        return Stream(_frames(request, reader), EVENT_STREAM, held=stack.pop_all())


def _resources(wanted: Iterable[str]) -> frozenset[str]:
    """Raises InvalidInput for what no record is: nothing would ever happen to it."""
    known = sorted(kind.resource for kind in every_record())
    for name in wanted:
        if name not in known:
            told = f"resource is one of {', '.join(known)}."
            raise InvalidInput(told, field="resource")
    return frozenset(wanted)


async def _frames(request: Request, reader: Reader) -> AsyncGenerator[bytes]:
    time = asyncio.get_running_loop().time
    admit_at = time() + ADMIT_EVERY_S
    yield reader.opening
    while not reader.ended:
        yield await reader.read(HEARTBEAT_S)
        if time() >= admit_at:
            admit_at = time() + ADMIT_EVERY_S
            if not await _is_admitted(request):
                yield sse.control_frame("bye", {"reason": "The token has ended: log in again."})
                return


async def _is_admitted(request: Request) -> bool:
    try:
        await admit(request, Permission.EVENT_VIEW)
    except (Unauthenticated, PermissionDenied):
        return False
    except YardError as error:
        log.warning("A reader's token could not be looked at: %s", error.message)
    return True
