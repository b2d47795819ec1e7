"""`/v1/auth`: tokens for a user name and a password."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from api.docker_catalog.answers import failures, json_answer, optional_slash, read_object
from api.http.auth import OpenRoute, ServicesDep
from pipeline.access.tokens import read_api_key
from pipeline.catalog import fields
from pipeline.errors import Unauthenticated

router = APIRouter(prefix="/v1/auth", tags=["docker images"], route_class=OpenRoute)


class Pair(BaseModel):
    refresh: str
    access: str


class Access(BaseModel):
    access: str


TEXT_MAX: Final = 8192
_UNCACHED: Final = {"Cache-Control": "no-store"}


def _body(**example: str) -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": list(example),
        "properties": {name: {"type": "string"} for name in example},
    }
    content = {
        "application/json": {"schema": schema, "example": example},
        "application/x-www-form-urlencoded": {"schema": schema},
    }
    return {"requestBody": {"required": True, "content": content}}


@optional_slash(
    router.add_api_route,
    "/obtain",
    method="POST",
    responses={200: {"model": Pair}, **failures(413, 415, 429)},
    openapi_extra=_body(username="admin", password="…"),
)
async def obtain(request: Request, services: ServicesDep) -> Response:
    """An access token and a refresh token."""
    given = _texts(await read_object(request), "username", "password")
    address = request.client.host if request.client else ""
    try:
        login = await services.access.sessions.login(
            given["username"], given["password"], address=address
        )
    except Unauthenticated as error:
        raise Unauthenticated(error.message, reason="login") from error
    return json_answer({"refresh": login.refresh, "access": login.access}, headers=_UNCACHED)


@optional_slash(
    router.add_api_route,
    "/refresh",
    method="POST",
    responses={200: {"model": Access}, **failures(413, 415)},
    openapi_extra=_body(refresh="eyJhbGciOi…"),
)
async def refresh(request: Request, services: ServicesDep) -> Response:
    """A new access token. The refresh token stays valid."""
    given = _texts(await read_object(request), "refresh")
    login = await services.access.sessions.refresh(given["refresh"])
    return json_answer({"access": login.access}, headers=_UNCACHED)


@optional_slash(
    router.add_api_route,
    "/verify",
    method="POST",
    responses={200: {"model": dict[str, str]}, **failures(413, 415)},
    openapi_extra=_body(token="eyJhbGciOi…"),
)
async def verify(request: Request, services: ServicesDep) -> Response:
    """Whether a token is good, of either kind."""
    token = _texts(await read_object(request), "token")["token"]
    if read_api_key(token) is not None:
        await services.access.authenticate(f"Bearer {token}")
    else:
        await services.access.sessions.read(token, None)
    return json_answer({}, headers=_UNCACHED)


def _texts(body: Mapping[str, Any], *names: str) -> dict[str, str]:
    """Raises InvalidInput that tells of every field."""
    wrong: dict[str, list[str]] = {}
    found: dict[str, str] = {}
    for name in names:
        try:
            if body.get(name) is None:
                raise fields.Wrong(fields.NULL if name in body else fields.REQUIRED)
            # A password may begin or end with spaces.
            found[name] = fields.text(body[name], TEXT_MAX, trimmed=name != "password")
        except fields.Wrong as error:
            wrong[name] = [str(error)]
    if wrong:
        raise fields.refused(wrong)
    return found
