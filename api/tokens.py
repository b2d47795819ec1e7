"""`/yard/v1/tokens`: tokens for people and programs."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from fastapi import APIRouter, Body, Request
from pydantic import Field
from starlette.responses import Response

from api.answers import JSON, problems
from api.auth import GuardedRoute, needs
from api.deps import Yard
from api.idempotency import REPLAYED, Key
from api.paging import Cursor, Limit, PageView, page_response
from api.views import TokenView, token_json
from schemas.access import Permission, Principal, Role
from schemas.base import Shape

router = APIRouter(prefix="/yard/v1/tokens", tags=["access"], route_class=GuardedRoute)

Issuer = Annotated[Principal, needs(Permission.TOKEN_WRITE)]


class TokenRequest(Shape):
    name: str = Field(min_length=1, max_length=255, examples=["ci"])
    role: Role = Role.MEMBER
    """It may do no more than the caller."""
    kind: Literal["api-key", "jwt"] = "api-key"
    ttl_s: int | None = Field(default=None, ge=1)
    """Without one an API key lives until it is revoked, and a JWT for 30 days."""


class IssuedView(TokenView):  # type: ignore[valid-type,misc]
    """A new token. `token` is shown this once."""

    token: str


@router.post(
    "",
    status_code=201,
    responses={201: {"model": IssuedView}, **problems(400, 409, 413, 415, 422, 503)},
)
async def create_token(
    wanted: Annotated[TokenRequest, Body()], caller: Issuer, yard: Yard, key: Key = None
) -> Response:
    """Make an API key or a long-lived JWT. Its text is in this answer and nowhere else."""
    issued = await yard.access.issue(
        caller, name=wanted.name, role=wanted.role, kind=wanted.kind, ttl_s=wanted.ttl_s, key=key
    )
    shown = token_json(issued.token, caller)
    body = shown[:-1] + b',"token":' + json.dumps(issued.text).encode() + b"}"
    headers = {"Location": f"{router.prefix}/{issued.token.uuid}", "Cache-Control": "no-store"}
    if issued.token.replayed:
        headers[REPLAYED] = "true"
    return Response(body, 201, headers, JSON)


@router.get("", responses={200: {"model": PageView[TokenView]}, **problems(422, 503)})  # type: ignore[valid-type]
async def list_tokens(
    request: Request, caller: Issuer, yard: Yard, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """Tokens that were handed out and not revoked, newest first, without their texts."""
    page = await yard.access.list(caller, limit=limit, cursor=cursor)
    return page_response(page, token_json, request=request, caller=caller)


@router.get("/{uuid}", responses={200: {"model": TokenView}, **problems(404, 503)})
async def get_token(uuid: str, caller: Issuer, yard: Yard) -> Response:
    """One of the listed tokens, without its text."""
    return Response(token_json(await yard.access.token(caller, uuid), caller), media_type=JSON)


@router.delete("/{uuid}", status_code=204, responses={204: {}, **problems(404, 503)})
async def revoke_token(uuid: str, caller: Issuer, yard: Yard) -> Response:
    """Make a token useless: here at once, in other processes within seconds. Can be repeated."""
    await yard.access.revoke(caller, uuid)
    return Response(status_code=204)
