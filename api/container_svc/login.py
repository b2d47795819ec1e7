"""`POST /user-svc/login`: a name and a password become a token."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from api.container_svc.answers import body_of, failures, json_answer, read
from api.container_svc.run_request import Part, Text
from api.container_svc.views import time_text
from api.http.auth import OpenRoute, ServicesDep

PREFIX: Final = "/user-svc"
router = APIRouter(prefix=PREFIX, tags=["container service"], route_class=OpenRoute)


class LoginRequest(Part):
    appHost: Text = Field(default="", max_length=512)
    """An organisation, by slug or uuid; what is none counts as the installation's own."""
    slug: Text = Field(min_length=1, max_length=512)
    """Name of a user; `name@org` names the organisation, too."""
    password: Text = Field(max_length=1024)
    device: Text = Field(default="", max_length=255)


class TokenObject(BaseModel):
    id: str
    userId: str
    appId: str
    token: str
    device: str
    createdAt: str
    updatedAt: str
    expiresAt: str


class LoggedIn(BaseModel):
    token: TokenObject


@router.post(
    "/login",
    responses={200: {"model": LoggedIn}, **failures(400, 429)},
    openapi_extra=body_of({"appHost": "acme", "slug": "admin", "password": "…"}),
)
async def log_in(request: Request, services: ServicesDep) -> Response:
    """A token for `Authorization: Bearer`. Failures are slowed per account and per address."""
    asked = await read(request, LoginRequest)
    known = None if "@" in asked.slug else await services.organisations.known(asked.appHost)
    login = await services.access.sessions.login(
        asked.slug, asked.password, known, address=request.client.host if request.client else ""
    )
    claims = login.claims
    issued = time_text(claims.issued_at)
    token = TokenObject(
        id=claims.id,
        userId=login.user.uuid,
        appId=login.user.org,
        token=login.access,
        device=asked.device,
        createdAt=issued,
        updatedAt=issued,
        expiresAt=time_text(claims.expires_at),
    )
    return json_answer({"token": token.model_dump()}, headers={"Cache-Control": "no-store"})
