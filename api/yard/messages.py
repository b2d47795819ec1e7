"""`/yard/v1/events`: what happens, as Server-Sent Events; `/yard/v1/dead-letters`: what failed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from pydantic import AfterValidator, WithJsonSchema
from starlette.responses import Response

from api.http.answers import JSON, Limit, PageView, cursor, page_response
from api.http.auth import GuardedRoute, HubDep, ServicesDep, admit, needs
from api.http.problem_details import problems
from api.http.streams import EVENT_STREAM, Stream
from pipeline import topology
from pipeline.errors import PermissionDenied, Unauthenticated, YardError
from pipeline.events import sse
from pipeline.events.readers import Reader, Wanted
from schemas.access import Permission, Principal
from schemas.base import every_record
from schemas.message import DeadLetter

events = APIRouter(prefix="/yard/v1/events", tags=["events"], route_class=GuardedRoute)

log = logging.getLogger(__name__)

HEARTBEAT_S = 15.0
ADMIT_EVERY_S = 60.0
"""How often the token is looked at again: a stream outlives neither its expiry nor its end."""

RESOURCES = sorted([*(kind.resource for kind in every_record()), topology.DEAD_LETTER])


def _known(resource: str) -> str:
    """Nothing would ever happen to what no record is."""
    if resource not in RESOURCES:
        raise ValueError(f"one of {', '.join(RESOURCES)}")
    return resource


Resource = Annotated[
    str, AfterValidator(_known), WithJsonSchema({"type": "string", "enum": RESOURCES})
]

_EXAMPLE = """\
retry: 1050
id: 5f0c2a-41

id: 5f0c2a-42
data: {"specversion":"1.0","id":"0b9c….2.ready","source":"modelyard",\
"type":"modelyard.image.ready","time":"2026-05-01T12:00:00.123Z","subject":"0b9c…",\
"datacontenttype":"application/json","actor":"worker:validation","resource":"image",\
"kind":"ready","sequence":42,"data":{"id":"0b9c…","name":"classifier","status":"READY"}}

"""


@events.get(
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
    hub: HubDep,
    resource: Annotated[list[Resource] | None, Query(description="Only of these.")] = None,
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
    `reset` (the id cannot be resumed: `reason` says why, the oldest event follows) and `bye` (the
    server stops, or the token has ended). After `bye` the stream ends; a client that comes back
    with the last id misses nothing. A reader that is slow misses nothing either. A comment every
    15 seconds shows that the stream is alive.
    """
    wanted = Wanted(frozenset(resource or ()), frozenset(id or ()), kind)
    async with AsyncExitStack() as stack:
        # Entered here, so that a failure is an answer of its own and not a broken stream.
        reader = await stack.enter_async_context(
            hub.subscribe(caller.org, wanted, after=last_event_id or after or None)
        )
        return Stream(_frames(request, reader), EVENT_STREAM, held=stack.pop_all())


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


dead_letters = APIRouter(
    prefix="/yard/v1/dead-letters", tags=["dead letters"], route_class=GuardedRoute
)

Viewer = Annotated[Principal, needs(Permission.DEAD_LETTER_VIEW)]
Revealer = Annotated[Principal, needs(Permission.DEAD_LETTER_REVEAL)]
Writer = Annotated[Principal, needs(Permission.DEAD_LETTER_WRITE)]


@dead_letters.get("", responses={200: {"model": PageView[DeadLetter]}, **problems(422, 503)})
async def list_dead_letters(
    request: Request,
    caller: Viewer,
    services: ServicesDep,
    limit: Limit = 50,
    cursor: Annotated[str | None, cursor("^[1-9][0-9]{0,17}$")] = None,
) -> Response:
    """Newest first, with the reason and the history of attempts, without payloads."""
    page = await services.dead_letters.list(caller, limit=limit, cursor=cursor)
    return page_response(page, _json, request=request, caller=caller)


@dead_letters.get("/{id}", responses={200: {"model": DeadLetter}, **problems(404, 503)})
async def get_dead_letter(id: str, caller: Viewer, services: ServicesDep) -> Response:
    """One message. Of its payload, values that the schema calls secret or environment are masked;
    of what no schema knows there are keys and types."""
    letter = await services.dead_letters.get(caller, id)
    return Response(_json(letter, caller), media_type=JSON)


@dead_letters.get("/{id}/text", responses={200: {"model": DeadLetter}, **problems(404, 409, 503)})
async def reveal_dead_letter(id: str, caller: Revealer, services: ServicesDep) -> Response:
    """The whole message as it was published, secrets included. Each look is told as the event
    `dead-letter.revealed`, with who looked."""
    letter = await services.dead_letters.reveal(caller, id)
    return Response(_json(letter, caller), media_type=JSON, headers={"Cache-Control": "no-store"})


@dead_letters.post(
    "/{id}/requeue",
    status_code=202,
    responses={202: {"model": DeadLetter}, **problems(404, 409, 503)},
)
async def requeue_dead_letter(id: str, caller: Writer, services: ServicesDep) -> Response:
    """Give it to the workers again, under its own id; the letter is removed."""
    letter = await services.dead_letters.requeue(caller, id)
    return Response(_json(letter, caller), 202, media_type=JSON)


@dead_letters.delete("/{id}", status_code=204, responses={204: {}, **problems(404, 503)})
async def drop_dead_letter(id: str, caller: Writer, services: ServicesDep) -> Response:
    """Forget it."""
    await services.dead_letters.drop(caller, id)
    return Response(status_code=204)


def _json(letter: DeadLetter, caller: Principal) -> bytes:
    return letter.model_dump_json().encode()
