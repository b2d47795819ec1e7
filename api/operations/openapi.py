"""The OpenAPI document: what FastAPI makes of the routes, completed, and kept as a file.

Making it takes seconds and 10 MiB, which no server that only hands it out need pay: `make docs`
writes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.http.answers import JSON
from api.http.problem_details import MEANINGS, MEDIA_TYPE
from api.operations.docs import SERVER

PLACE = Path(__file__).with_name("openapi.json")
VERSION = "1"
_DESCRIPTION = """\
Takes in model container images, proves that they work, and runs them on GPU nodes.

Every call needs a token: `Authorization: Bearer …`. Failures are problem details (RFC 9457) with a
stable `code`. What makes a record takes an `Idempotency-Key`, so that a POST can be repeated
safely; the other POSTs say what a repeat does. Guard a change with `If-Match`; follow what happens
at `/yard/v1/events`. What automation may publish without HTTP is told by `/asyncapi`.

The head of a request has at most 64 KiB and 100 fields (else 431), its target 8 KiB (else 414).
"""
_TAGS = [
    {"name": "images", "description": "Bring an image, have it proved, keep it."},
    {"name": "uploads", "description": "Send an archive in pieces, and go on after a cut."},
    {"name": "containers", "description": "Run images on nodes that fit them."},
    {"name": "deployments", "description": "Keep replicas of a container answering."},
    {"name": "nodes", "description": "Machines with a Docker Engine and an agent."},
    {"name": "events", "description": "What happens, while it happens."},
    {"name": "audit", "description": "Who did what, and from where."},
    {"name": "webhooks", "description": "URLs that are told what happens."},
    {"name": "dead letters", "description": "Messages that could not be handled."},
    {"name": "access", "description": "Logins and tokens."},
    {"name": "organisations", "description": "Organisations, their quotas and their users."},
    {"name": "models", "description": "Models and versions that hold a container image."},
    {"name": "registries", "description": "What lies in the registries of the directory."},
    {"name": "registry directory", "description": "The directory of OCI registries."},
    {"name": "registry secrets", "description": "Credentials of registries."},
    {
        "name": "imported containers",
        "description": "Images and deployments, in words of their own.",
    },
    {"name": "container service", "description": "Containers of nodes, for clients of 1Backend."},
    {"name": "docker images", "description": "The catalogue of Docker images and its tables."},
    {"name": "health", "description": "For load balancers and monitoring."},
]
_GENERIC = ("HTTPValidationError", "ValidationError")
_METHODS = frozenset({"get", "put", "post", "delete", "patch", "head", "options", "trace"})


_FILE = {"file": "the bytes of a file"}
_TOKEN = "eyJhbGciOi…"
_EXAMPLES: Mapping[str, Any] = {
    "continue_upload": "the bytes from Upload-Offset on",
    "call_container": {"input": "whatever the model takes"},
    "run_command": {"command": ["ls", "-l", "/"], "timeout_s": 10},
    "scale_deployment": {"replicas": 3},
    "roll_back_deployment": {"generation": 2},
    "create_token": {"name": "ci", "role": "member", "ttl_s": 86400},
    "log_in": {"username": "admin", "password": "…"},
    "refresh": {"refresh": _TOKEN},
    "log_out": {"token": _TOKEN},
    "add_registry_secret": {
        "name": "team-registry",
        "data": {"server": "registry.example:5000", "username": "ci", "password": "…"},
    },
    "api_create_model": {"name": "classifier", "version": "1.0.0"},
    "api_patch_model": {"description": "Tells cats from dogs.", "tags": ["pets"]},
    "api_create_version": {"version": "1.1.0"},
    "api_patch_version": {"timeout": {"run": 30000}, "status": "active"},
    "api_call_model": {"input": {"pixels": [0, 127, 255]}},
    "api_deliver_image": {"registry": {"url": "ghcr.io/team/classifier:1.0.0"}},
    "api_put_test_input": _FILE,
    "api_put_sample_input": {"pixels": [0, 127, 255]},
    "api_put_sample_output": {"label": "cat"},
    "api_put_picture": _FILE,
}
"""Of bodies that their routes give none: by operation, in its first media type or as JSON."""


def describe(app: FastAPI) -> dict[str, Any]:
    """With problem details where FastAPI would put its own error shape, and every `$ref` in it."""
    document: dict[str, Any] = get_openapi(
        title="Modelyard",
        version=VERSION,
        description=_DESCRIPTION,
        routes=app.routes,
        tags=_TAGS,
        servers=[{"url": SERVER}],
    )
    for operation in _operations(document):
        operation["responses"] = _responses(operation["responses"])
        content = operation.get("requestBody", {}).get("content", {})
        if JSON in content:
            _document_silence(operation["responses"])
        if operation["operationId"] in _EXAMPLES:
            kind = content[JSON if JSON in content else next(iter(content))]
            kind["example"] = _EXAMPLES[operation["operationId"]]
        for parameter in operation.get("parameters", ()):
            parameter["schema"] = _never_null(parameter["schema"])
    schemas = document["components"]["schemas"]
    for name in _GENERIC:
        schemas.pop(name, None)
    _gather_definitions(document["paths"], schemas)
    return document


def _operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in document["paths"].values():
        yield from (operation for method, operation in path.items() if method in _METHODS)


def _never_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter is left out, and no text stands for null."""
    if "anyOf" not in schema:
        return schema
    kinds = [kind for kind in schema["anyOf"] if kind != {"type": "null"}]
    rest = {name: value for name, value in schema.items() if name != "anyOf"}
    return rest | (kinds[0] if len(kinds) == 1 else {"anyOf": kinds})


def _gather_definitions(node: Any, schemas: dict[str, Any]) -> None:
    """Brings `$defs` of schemas that stand in a route to where `$ref` is looked for.

    Raises ValueError when two of them share a name.
    """
    if isinstance(node, list):
        for each in node:
            _gather_definitions(each, schemas)
    if not isinstance(node, dict):
        return
    for name, schema in node.pop("$defs", {}).items():
        _gather_definitions(schema, schemas)
        if schemas.setdefault(name, schema) != schema:
            raise ValueError(f"There are two schemas called {name}.")
    if str(node.get("$ref")).startswith("#/$defs/"):
        node["$ref"] = node["$ref"].replace("#/$defs/", "#/components/schemas/", 1)
    for each in node.values():
        _gather_definitions(each, schemas)


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
    for media in content.values():
        if str(media.get("schema", {}).get("title")).startswith("Response "):
            del media["schema"]["title"]  # made of the path, where a shape has no name
    if MEDIA_TYPE not in content:
        return response
    return {**response, "content": {MEDIA_TYPE: content[MEDIA_TYPE]}}


def _is_generic(response: dict[str, Any]) -> bool:
    schema = response.get("content", {}).get(JSON, {}).get("schema", {})
    return str(schema.get("$ref", "")).rpartition("/")[2] in _GENERIC


def written(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"
