"""`/docs`, `/openapi.json`, `/asyncapi`: what can be called and what is published."""

from __future__ import annotations

import json
from importlib import resources
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from api.http.answers import JSON
from api.http.auth import OpenRoute

router = APIRouter(route_class=OpenRoute, include_in_schema=False)

SERVER = "address-of-the-server"
"""Stands in `openapi.json` for what the setting `url` says."""
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
)


@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    """The calls: OpenAPI 3.1, with the address of this installation's server."""
    address = json.dumps(request.app.state.settings.url)
    document = _file("openapi.json").replace(f'"{SERVER}"'.encode(), address.encode(), 1)
    return Response(document, media_type=JSON)


@router.get("/asyncapi")
async def asyncapi(request: Request) -> Response:
    """The messages: AsyncAPI 3, with the address of this installation's broker."""
    document = json.loads(_file("asyncapi.json"))
    first = urlsplit(request.app.state.settings.nats_url.partition(",")[0])
    document["servers"]["nats"]["host"] = first.netloc.rpartition("@")[2]
    return Response(json.dumps(document), media_type=JSON)


@router.get("/docs")
async def docs() -> Response:
    """A page that reads `/openapi.json`. It loads nothing from elsewhere."""
    headers = {"Content-Security-Policy": _POLICY}
    return Response(_file("docs.html"), headers=headers, media_type="text/html")


def operation_id(route: APIRoute) -> str:
    """Our own operations by their plain names; other doors' begin with the door's first segment."""
    door = route.path.strip("/").partition("/")[0].replace("-", "_")
    ours = route.path.startswith("/yard/v1") or door in ("", route.name)
    return route.name if ours else f"{door}_{route.name}"


def _file(name: str) -> bytes:
    return resources.files("api.operations").joinpath(name).read_bytes()
