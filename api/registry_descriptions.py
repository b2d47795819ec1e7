"""What the OpenAPI document says about the routes of the registry directory."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, Field

from pipeline.rules.registry_queries import LIMIT, LIMIT_MAX


class Refusal(BaseModel):
    """The envelope of every failure under these paths."""

    success: bool = Field(examples=[False])
    error: str


class Said(BaseModel):
    message: str
    id: str | None = None


class SaidEnvelope(BaseModel):
    success: bool
    data: Said


class EntryEnvelope(BaseModel):
    success: bool
    data: dict[str, Any]


class EntriesEnvelope(BaseModel):
    success: bool
    data: list[dict[str, Any]]


_MEANINGS: Final = {
    400: "The request is malformed: `error` says what to change.",
    401: "No token, or one that is wrong, expired or revoked.",
    403: "The token lacks the permission.",
    404: "The organisation has no entry of this id.",
    409: "The organisation has an entry of this id.",
    413: "The body is larger than 1 MiB.",
    503: "Store or broker do not answer.",
    504: "No worker answered in time; the check goes on.",
}

ENTRY: Final = {
    "container_registry_id": "team-registry",
    "container_registry_name": "team registry",
    "container_registry_tags": ["internal"],
    "container_registry_metadata": {"region": "eu"},
    "container_registry_public_url": "http://127.0.0.1:5000",
    "container_registry_image_prefix": "127.0.0.1:5000",
    "container_registry_storage_info": {"storage_type": "fs", "registry_type": "aios"},
}


def _route(
    status: int,
    answer: type[BaseModel],
    *failures: int,
    body: dict[str, Any] | None = None,
    parameters: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    refusals = {
        each: {"model": Refusal, "description": _MEANINGS[each]}
        for each in (400, 401, 403, *failures, 503)
    }
    extra: dict[str, Any] = {}
    if body is not None:
        content = {"application/json": {"schema": {"type": "object"}, "example": body}}
        extra["requestBody"] = {"required": True, "content": content}
    if parameters:
        extra["parameters"] = parameters
    return {"responses": {status: {"model": answer}, **refusals}, "openapi_extra": extra}


def _parameter(name: str, schema: dict[str, Any], text: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": text}


_PAGING: Final = [
    _parameter(
        "limit",
        {"type": "integer", "minimum": 0, "default": LIMIT},
        f"Most entries of the page; above {LIMIT_MAX} counts as {LIMIT_MAX}.",
    ),
    _parameter(
        "offset", {"type": "integer", "minimum": 0, "default": 0}, "Entries before the page."
    ),
    _parameter(
        "sort",
        {"type": "string", "default": "created_at"},
        "Up to three paths, separated by commas; `-` before one reverses it.",
    ),
]

CREATE: Final = _route(201, SaidEnvelope, 409, 413, body=ENTRY)
READ: Final = _route(200, EntryEnvelope, 404)
UPDATE: Final = _route(
    200,
    SaidEnvelope,
    404,
    413,
    body={
        "$set": {"container_registry_metadata.region": "us"},
        "$addToSet": {"container_registry_tags": "fast"},
    },
)
DELETE: Final = _route(200, SaidEnvelope, 404)
QUERY: Final = _route(
    200,
    EntriesEnvelope,
    413,
    body={"container_registry_tags": {"$in": ["ai", "internal"]}},
    parameters=_PAGING,
)
CHECK: Final = _route(200, EntryEnvelope, 404, 504)
