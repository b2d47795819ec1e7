"""What the OpenAPI document says about the routes of the registry directory."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, Field

from pipeline.registries.queries import LIMIT, LIMIT_MAX


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


_TEXT: Final = {"type": "string", "maxLength": 255}
_OBJECT: Final = {"type": "object"}
_SIZE: Final = {"type": "integer", "minimum": -1, "description": "MB; -1: unlimited or unknown."}
_STORAGE: Final = {
    "type": "object",
    "properties": {
        "storage_type": {"enum": ["s3", "object-store", "fs", "unknown"]},
        "storage_size": _SIZE,
        "memory_size": _SIZE,
        "registry_type": {"enum": ["aios", "external"]},
    },
}
_FIELDS: Final = {
    "id": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$", "not": {"enum": [".", ".."]}},
    "name": _TEXT,
    "metadata": _OBJECT,
    "config": _OBJECT | {"description": "Public: credentials belong into a secret."},
    "tags": {
        "type": "array",
        "maxItems": 100,
        "items": {"type": "string", "minLength": 1, "maxLength": 128},
    },
    "public_url": {
        "type": "string",
        "maxLength": 2048,
        "description": "Absolute http or https URL without user info, query or fragment.",
    },
    "image_prefix": _TEXT,
    "storage_info": _STORAGE,
    "secret": {
        "type": ["string", "null"],
        "description": "UUID of a registry secret of the organisation.",
    },
}
_ENTRY: Final = {
    "type": "object",
    "properties": {f"container_registry_{name}": schema for name, schema in _FIELDS.items()},
    "required": ["container_registry_public_url"],
}
_UPDATE: Final = {
    "type": "object",
    "minProperties": 1,
    "description": "A partial document, or the operators $set, $unset, $push, $pull, $addToSet,"
    " $inc and $rename.",
}
_FILTER: Final = {"type": "object", "description": "A filter in a part of MongoDB's language."}


def _route(
    status: int,
    answer: type[BaseModel],
    *failures: int,
    body: tuple[dict[str, Any], dict[str, Any]] | None = None,
    parameters: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    refusals = {
        each: {"model": Refusal, "description": _MEANINGS[each]}
        for each in (400, 401, 403, *failures, 503)
    }
    extra: dict[str, Any] = {}
    if body is not None:
        schema, example = body
        content = {"application/json": {"schema": schema, "example": example}}
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

CREATE: Final = _route(201, SaidEnvelope, 409, 413, body=(_ENTRY, ENTRY))
READ: Final = _route(200, EntryEnvelope, 404)
UPDATE: Final = _route(
    200,
    SaidEnvelope,
    404,
    413,
    body=(
        _UPDATE,
        {
            "$set": {"container_registry_metadata.region": "us"},
            "$addToSet": {"container_registry_tags": "fast"},
        },
    ),
)
DELETE: Final = _route(200, SaidEnvelope, 404)
QUERY: Final = _route(
    200,
    EntriesEnvelope,
    413,
    body=(_FILTER, {"container_registry_tags": {"$in": ["ai", "internal"]}}),
    parameters=_PAGING,
)
CHECK: Final = _route(200, EntryEnvelope, 404, 504)
