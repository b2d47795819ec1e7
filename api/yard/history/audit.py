"""`/yard/v1/audit`: who did what in the organisation, and from where."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from api.http.answers import Cursor, Limit, PageView, Since, page_response
from api.http.auth import GuardedRoute, ServicesDep, needs
from api.http.problem_details import problems
from schemas.access import AuditEntry, Permission, Principal

router = APIRouter(prefix="/yard/v1/audit", tags=["audit"], route_class=GuardedRoute)


class AuditEntryView(BaseModel):
    """One thing that somebody did."""

    id: str
    time: datetime
    actor: str
    """`user:…` or `token:…` with its uuid, or `queue:…` with the source that a command named."""
    origin: str
    """The address of an HTTP client, or `nats`."""
    action: str
    """`image.deleted`: the resource, and what became of it."""
    target: str
    """uuid of the record."""
    name: str | None
    request: str | None
    """`X-Request-Id` of the request, or id of the command."""
    event: str


def _filter(description: str) -> object:
    return Query(max_length=255, description=description)


@router.get("", responses={200: {"model": PageView[AuditEntryView]}, **problems(422, 503)})
async def list_audit_entries(
    request: Request,
    caller: Annotated[Principal, needs(Permission.AUDIT_READ)],
    services: ServicesDep,
    actor: Annotated[str | None, _filter("Only what he did: `user:3f…`.")] = None,
    action: Annotated[str | None, _filter("Only this: `image.deleted`.")] = None,
    target: Annotated[str | None, _filter("Only what was done to this record, by uuid.")] = None,
    origin: Annotated[str | None, _filter("Only what came from this address.")] = None,
    request_id: Annotated[str | None, _filter("Only what one request or command did.")] = None,
    since: Annotated[Since | None, Query(description="Not earlier than this.")] = None,
    until: Annotated[Since | None, Query(description="Earlier than this.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """What people, tokens and commands did, newest first: made from the events, so it is never
    without what happened, and a second or two behind it. It holds no values, only names."""
    page = await services.watching.audit.list(
        caller,
        actor=actor,
        action=action,
        target=target,
        origin=origin,
        cause=request_id,
        since=since,
        until=until,
        limit=limit,
        cursor=cursor,
    )
    return page_response(page, _json, request=request, caller=caller)


def _json(entry: AuditEntry, caller: Principal) -> bytes:
    view = AuditEntryView(
        id=entry.uuid,
        time=entry.created_at,
        request=entry.cause,
        **{name: getattr(entry, name) for name in _SAME},
    )
    return view.model_dump_json().encode()


_SAME = ("actor", "origin", "action", "target", "name", "event")
