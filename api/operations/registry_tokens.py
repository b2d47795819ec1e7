"""The token service of the platform's own registry, for engines that pull from it.

https://distribution.github.io/distribution/spec/auth/token/
"""

from __future__ import annotations

import base64
import binascii

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from api.http.answers import JSON
from api.http.auth import OpenRoute, ServicesDep
from pipeline.adapters.registry.tokens import SPARE_S
from pipeline.errors import Unauthenticated

router = APIRouter(tags=["images"], route_class=OpenRoute)


class RegistryToken(BaseModel):
    token: str
    expires_in: int = SPARE_S
    """Seconds for which it is good at least."""


@router.get(
    "/token",
    response_model=RegistryToken,
    responses={401: {"description": "Not the key of a launch that pulls now."}},
)
async def registry_token(request: Request, services: ServicesDep) -> Response:
    """Exchange the key of a launch (basic authentication) for a token to pull its image with.

    Query parameters of the Docker token protocol are taken and not heeded: the key says it all.
    """
    user, key = _basic(request.headers.get("authorization", ""))
    token = await services.pulls.token(user, key)
    return Response(
        RegistryToken(token=token).model_dump_json(),
        headers={"Cache-Control": "no-store"},
        media_type=JSON,
    )


def _basic(header: str) -> tuple[str, str]:
    scheme, _, encoded = header.partition(" ")
    try:
        user, colon, key = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        scheme = colon = user = key = ""
    if scheme.lower() != "basic" or not colon:
        raise Unauthenticated("The platform's registry is for its own engines, not for people.")
    return user, key
