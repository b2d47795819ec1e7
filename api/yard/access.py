"""`/yard/v1/login`, `/refresh`, `/logout` for people with a password; `/yard/v1/tokens`."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Body, Request
from pydantic import BaseModel, Field, SecretStr
from starlette.responses import Response

from api.http.answers import JSON, Cursor, Key, Limit, PageView, location, page_response
from api.http.auth import GuardedRoute, OpenRoute, ServicesDep, needs
from api.http.problem_details import problems
from api.yard.views import TokenView, token_json
from pipeline.access.sessions import Login
from schemas.access import Permission, Principal, Role
from schemas.base import Shape

sessions = APIRouter(prefix="/yard/v1", tags=["access"], route_class=OpenRoute)


class LoginRequest(Shape):
    username: str = Field(max_length=512, examples=["admin"])
    password: SecretStr = Field(max_length=1024)
    org: str | None = Field(default=None, max_length=128)
    """Without it, `name@org` names it, and otherwise it is the installation's own."""


class RefreshRequest(Shape):
    refresh: SecretStr = Field(max_length=8192)


class LogoutRequest(Shape):
    token: SecretStr = Field(max_length=8192)
    """An access or refresh token: both of its session end."""


class SessionView(BaseModel):
    access: str
    """For `Authorization: Bearer`; short-lived."""
    refresh: str
    """For `POST /yard/v1/refresh`; good for the whole session."""
    token_type: str = "Bearer"
    expires_at: datetime
    """When `access` ends."""
    user: str
    org: str
    role: Role


@sessions.post(
    "/login", responses={200: {"model": SessionView}, **problems(400, 413, 415, 422, 429, 503)}
)
async def log_in(
    asked: Annotated[LoginRequest, Body()], request: Request, services: ServicesDep
) -> Response:
    """Tokens for a user name and a password. Failures are slowed per account and per address."""
    login = await services.access.sessions.login(
        asked.username,
        asked.password.get_secret_value(),
        asked.org,
        address=request.client.host if request.client else "",
    )
    return _answer(login)


@sessions.post(
    "/refresh", responses={200: {"model": SessionView}, **problems(400, 413, 415, 422, 503)}
)
async def refresh(asked: Annotated[RefreshRequest, Body()], services: ServicesDep) -> Response:
    """A new access token, with the user's present role. The refresh token stays valid."""
    return _answer(await services.access.sessions.refresh(asked.refresh.get_secret_value()))


@sessions.post("/logout", status_code=204, responses={204: {}, **problems(400, 413, 415, 422, 503)})
async def log_out(asked: Annotated[LogoutRequest, Body()], services: ServicesDep) -> Response:
    """End a session: none of its tokens is good any more."""
    await services.access.sessions.logout(asked.token.get_secret_value())
    return Response(status_code=204)


def _answer(login: Login) -> Response:
    view = SessionView(
        access=login.access,
        refresh=login.refresh,
        expires_at=login.claims.expires_at,
        user=login.user.name,
        org=login.user.org,
        role=login.user.role,
    )
    return Response(view.model_dump_json(), 200, {"Cache-Control": "no-store"}, JSON)


own = APIRouter(prefix="/yard/v1", tags=["access"], route_class=GuardedRoute)


@own.get("/me", responses={200: {"model": Principal}, **problems(503)})
async def show_caller(caller: Annotated[Principal, needs(None)]) -> Response:
    """As whom the token speaks, and what it may do. Clients need not offer anything else."""
    body = dict(caller) | {"roles": sorted(caller.roles), "permissions": sorted(caller.permissions)}
    return Response(json.dumps(body), 200, {"Cache-Control": "no-store"}, JSON)


tokens = APIRouter(prefix="/yard/v1/tokens", tags=["access"], route_class=GuardedRoute)

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


@tokens.post(
    "",
    status_code=201,
    responses={201: {"model": IssuedView}, **problems(400, 409, 413, 415, 422, 503)},
)
async def create_token(
    wanted: Annotated[TokenRequest, Body()], caller: Issuer, services: ServicesDep, key: Key = None
) -> Response:
    """Make an API key or a long-lived JWT. Its text is in this answer and nowhere else."""
    issued = await services.access.tokens.issue(
        caller, name=wanted.name, role=wanted.role, kind=wanted.kind, ttl_s=wanted.ttl_s, key=key
    )
    shown = token_json(issued.token, caller)
    body = shown[:-1] + b',"token":' + json.dumps(issued.text).encode() + b"}"
    headers = location(issued.token, tokens.prefix) | {"Cache-Control": "no-store"}
    return Response(body, 201, headers, JSON)


@tokens.get("", responses={200: {"model": PageView[TokenView]}, **problems(422, 503)})  # type: ignore[valid-type]
async def list_tokens(
    request: Request,
    caller: Issuer,
    services: ServicesDep,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Tokens that were handed out and not revoked, newest first, without their texts."""
    page = await services.access.tokens.list(caller, limit=limit, cursor=cursor)
    return page_response(page, token_json, request=request, caller=caller)


@tokens.get("/{uuid}", responses={200: {"model": TokenView}, **problems(404, 503)})
async def get_token(uuid: str, caller: Issuer, services: ServicesDep) -> Response:
    """One of the listed tokens, without its text."""
    return Response(
        token_json(await services.access.tokens.get(caller, uuid), caller), media_type=JSON
    )


@tokens.delete("/{uuid}", status_code=204, responses={204: {}, **problems(404, 503)})
async def revoke_token(uuid: str, caller: Issuer, services: ServicesDep) -> Response:
    """Make a token useless: here at once, in other processes within seconds. Can be repeated."""
    await services.access.tokens.revoke(caller, uuid)
    return Response(status_code=204)
