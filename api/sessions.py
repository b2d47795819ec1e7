"""`/yard/v1/login`, `/refresh`, `/logout`: tokens for people who have a password."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Body, Request
from pydantic import BaseModel, Field, SecretStr
from starlette.responses import Response

from api.answers import JSON, problems
from api.auth import OpenRoute
from api.deps import Yard
from pipeline.core.sessions import Login
from schemas.access import Role
from schemas.base import Shape

router = APIRouter(prefix="/yard/v1", tags=["access"], route_class=OpenRoute)


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


@router.post(
    "/login", responses={200: {"model": SessionView}, **problems(400, 413, 415, 422, 429, 503)}
)
async def log_in(asked: Annotated[LoginRequest, Body()], request: Request, yard: Yard) -> Response:
    """Tokens for a user name and a password. Failures are slowed down per name and address."""
    login = await yard.access.login(
        asked.username,
        asked.password.get_secret_value(),
        asked.org,
        address=request.client.host if request.client else "",
    )
    return _answer(login)


@router.post(
    "/refresh", responses={200: {"model": SessionView}, **problems(400, 413, 415, 422, 503)}
)
async def refresh(asked: Annotated[RefreshRequest, Body()], yard: Yard) -> Response:
    """A new access token, with the user's present role. The refresh token stays valid."""
    return _answer(await yard.access.refresh(asked.refresh.get_secret_value()))


@router.post("/logout", status_code=204, responses={204: {}, **problems(400, 413, 415, 422, 503)})
async def log_out(asked: Annotated[LogoutRequest, Body()], yard: Yard) -> Response:
    """End a session: none of its tokens is good any more."""
    await yard.access.logout(asked.token.get_secret_value())
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
