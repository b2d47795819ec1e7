"""`/yard/v1/dead-letters`: messages that could not be handled."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.answers import JSON, problems
from api.auth import GuardedRoute, needs
from api.deps import Yard
from api.paging import Cursor, Limit, PageView, page_response
from schemas.access import Permission, Principal
from schemas.dead import DeadLetter

router = APIRouter(prefix="/yard/v1/dead-letters", tags=["dead letters"], route_class=GuardedRoute)

Viewer = Annotated[Principal, needs(Permission.DEAD_LETTER_VIEW)]
Writer = Annotated[Principal, needs(Permission.DEAD_LETTER_WRITE)]


@router.get("", responses={200: {"model": PageView[DeadLetter]}, **problems(422, 503)})
async def list_dead_letters(
    request: Request, caller: Viewer, yard: Yard, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """Newest first, with the reason and the history of attempts, without payloads."""
    page = await yard.dead_letters.list(caller, limit=limit, cursor=cursor)
    return page_response(page, _json, request=request, caller=caller)


@router.get("/{id}", responses={200: {"model": DeadLetter}, **problems(404, 503)})
async def get_dead_letter(id: str, caller: Viewer, yard: Yard) -> Response:
    """One message with its payload."""
    letter = await yard.dead_letters.get(caller, id)
    return Response(_json(letter, caller), media_type=JSON)


@router.post(
    "/{id}/requeue",
    status_code=202,
    responses={202: {"model": DeadLetter}, **problems(404, 409, 503)},
)
async def requeue_dead_letter(id: str, caller: Writer, yard: Yard) -> Response:
    """Give it to the workers again, under its own id; the letter is removed."""
    letter = await yard.dead_letters.requeue(caller, id)
    return Response(_json(letter, caller), 202, media_type=JSON)


@router.delete("/{id}", status_code=204, responses={204: {}, **problems(404, 503)})
async def drop_dead_letter(id: str, caller: Writer, yard: Yard) -> Response:
    """Forget it."""
    await yard.dead_letters.drop(caller, id)
    return Response(status_code=204)


def _json(letter: DeadLetter, caller: Principal) -> bytes:
    return letter.model_dump_json().encode()
