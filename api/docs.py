"""`/docs`, `/openapi.json`, `/asyncapi`: what can be called and what is published."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.responses import Response

from api.answers import JSON, MEANINGS
from api.auth import OpenRoute
from api.problems import MEDIA_TYPE

router = APIRouter(route_class=OpenRoute, include_in_schema=False)

VERSION = "1"
_DESCRIPTION = """\
Takes in model container images, proves that they work, and runs them on GPU nodes.

Every call needs a token: `Authorization: Bearer …`. Failures are problem details (RFC 9457) with a
stable `code`. What makes a record takes an `Idempotency-Key`, so that a POST can be repeated
safely; the other POSTs say what a repeat does. Guard a change with `If-Match`; follow what happens
at `/yard/v1/events`. What automation may publish without HTTP is told by `/asyncapi`.
"""
_TAGS = [
    {"name": "images", "description": "Bring an image, have it proved, keep it."},
    {"name": "uploads", "description": "Send an archive in pieces, and go on after a cut."},
    {"name": "containers", "description": "Run images on nodes that fit them."},
    {"name": "nodes", "description": "Machines with a Docker Engine and an agent."},
    {"name": "events", "description": "What happens, while it happens."},
    {"name": "dead letters", "description": "Messages that could not be handled."},
    {"name": "access", "description": "Logins and tokens."},
    {"name": "models", "description": "Models and versions that hold a container image."},
    {"name": "registries", "description": "What lies in the registries of the directory."},
    {"name": "registry directory", "description": "The directory of OCI registries."},
    {"name": "registry secrets", "description": "Credentials of registries."},
    {"name": "health", "description": "For load balancers and monitoring."},
]
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
)
_GENERIC = ("HTTPValidationError", "ValidationError")
_METHODS = frozenset({"get", "put", "post", "delete", "patch", "head", "options", "trace"})


@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    state = request.app.state
    if getattr(state, "openapi", None) is None:
        # Kept as bytes: as objects it would take ten times the memory.
        state.openapi = json.dumps(request.app.openapi(), ensure_ascii=False).encode()
    return Response(state.openapi, media_type=JSON)


@router.get("/asyncapi")
async def asyncapi() -> Response:
    """The messages: AsyncAPI 3."""
    return Response(_file("asyncapi.json"), media_type=JSON)


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


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with problem details where FastAPI would put its own error shape."""
    document: dict[str, Any] = get_openapi(
        title="Modelyard",
        version=VERSION,
        description=_DESCRIPTION,
        routes=app.routes,
        tags=_TAGS,
    )
    for path in document["paths"].values():
        for method, operation in path.items():
            if method in _METHODS:
                operation["responses"] = _responses(operation["responses"])
                if JSON in operation.get("requestBody", {}).get("content", {}):
                    _document_silence(operation["responses"])
    for name in _GENERIC:
        document["components"]["schemas"].pop(name, None)
    return document


def _responses(declared: dict[str, Any]) -> dict[str, Any]:
    return {
        status: _response(response)
        for status, response in declared.items()
        if not _is_generic(response)
    }


def _document_silence(responses: dict[str, Any]) -> None:
    """Whoever reads a body may wait for it in vain."""
    # In the shape of the door, which every one of its failures has.
    responses.setdefault("408", responses["401"] | {"description": MEANINGS[408]})


def _response(response: dict[str, Any]) -> dict[str, Any]:
    content = response.get("content", {})
    if MEDIA_TYPE not in content:
        return response
    return {**response, "content": {MEDIA_TYPE: content[MEDIA_TYPE]}}


def _is_generic(response: dict[str, Any]) -> bool:
    schema = response.get("content", {}).get(JSON, {}).get("schema", {})
    return str(schema.get("$ref", "")).rpartition("/")[2] in _GENERIC


def _file(name: str) -> bytes:
    return resources.files("api").joinpath(name).read_bytes()
