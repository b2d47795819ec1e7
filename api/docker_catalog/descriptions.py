"""What the OpenAPI document says about the Docker image catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

from api.docker_catalog.answers import failures
from pipeline.catalog.tables import Kind, Table

Schema = Mapping[str, Any]


class CudaVersion(BaseModel):
    pk: int
    version: str
    full_version: str
    min_driver_version: str


class Framework(BaseModel):
    pk: int
    name: str
    version: str


class Hardware(BaseModel):
    pk: int
    generation: str
    min_compute_capability: float
    max_compute_capability: float


class DockerImage(BaseModel):
    """An image and what it requires."""

    pk: int
    name: str
    version: str
    url: str
    registry_url: str
    registry_username: str | None
    registry_password: str | None
    """Null for all but staff and nodes."""
    cuda_version: CudaVersion
    framework: Framework
    domain: str
    """Its description."""
    tasks: list[str]
    """Names of job contracts."""
    min_hardware_generation: Hardware | None
    cpu: bool
    licence: str


IMAGE: Final = {
    "name": "classifier",
    "version": "1.0",
    "url": "registry.example:5000/team/classifier:1.0",
    "registry_url": "registry.example:5000",
    "registry_username": "ci",
    "registry_password": "…",
    "cuda_version": "11.8",
    "framework": 1,
    "domain": "ic",
    "tasks": ["Predict"],
    "min_hardware_generation": "Turing",
    "cpu": False,
    "licence": "MIT",
}
_NAMED: Final = {"type": ["string", "integer", "object"]}
_FIELDS: Final[Mapping[str, Schema]] = {
    "name": {"type": ["string", "number"], "maxLength": 64},
    "version": {"type": ["string", "number"], "maxLength": 32},
    "url": {"type": "string", "maxLength": 200},
    "registry_url": {"type": "string", "maxLength": 200},
    "registry_username": {"type": ["string", "null"], "minLength": 1, "maxLength": 64},
    "registry_password": {"type": ["string", "null"], "minLength": 1, "maxLength": 64},
    "cuda_version": {"type": ["string", "number", "object"], "description": "Short version."},
    "framework": {"type": ["integer", "string", "object"], "description": "Its pk."},
    "domain": _NAMED | {"description": "Name, description or pk."},
    "tasks": {"type": "array", "items": _NAMED, "description": "Job contracts."},
    "min_hardware_generation": {
        "type": ["string", "integer", "object", "null"],
        "description": "Generation or pk; null only with cpu.",
    },
    "cpu": {"type": ["boolean", "integer", "string"], "default": False},
    "licence": _NAMED | {"description": "Name or pk."},
}
_OPTIONAL: Final = frozenset(
    {"registry_username", "registry_password", "min_hardware_generation", "cpu"}
)
_FILTER: Final = {
    "type": ["object", "array", "null"],
    "properties": {
        "expressions": {"type": "array", "items": {"type": "object"}},
        "order_by": {"type": "array", "items": {"type": "object"}},
        "include_inactive": {"type": "boolean"},
    },
    "additionalProperties": False,
}
_MATCH: Final = {
    "name": "If-Match",
    "in": "header",
    "schema": {"type": "string"},
    "description": "Do it only if the record still has this ETag; else 412.",
}


def _body(schema: Schema, example: Any, *, required: bool = True) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": schema, "example": example}}
    content["application/x-www-form-urlencoded"] = {"schema": schema}
    content["multipart/form-data"] = {"schema": schema}
    return {"requestBody": {"required": required, "content": content}}


def _object(properties: Mapping[str, Schema], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties), "required": required}


def _route(
    status: int, answer: Any, *failing: int, extra: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    shown = {} if answer is None else {"model": answer}
    return {"responses": {status: shown, **failures(*failing)}, "openapi_extra": dict(extra or {})}


def _paging(name: str, text: str) -> dict[str, Any]:
    schema = {"type": "integer", "minimum": 0}
    return {"name": name, "in": "query", "schema": schema, "description": text}


def listing(answer: Any, example: Any) -> dict[str, Any]:
    extra = _body(_FILTER, example, required=False)
    extra["parameters"] = [
        _paging("limit", "Most of the answer."),
        _paging("offset", "How many to leave out."),
    ]
    return _route(200, list[answer], 413, 415, extra=extra)


_REQUIRED: Final = [name for name in _FIELDS if name not in _OPTIONAL]
_WHOLE: Final = _body(_object(_FIELDS, _REQUIRED), IMAGE)
_MATCHED: Final = {"parameters": [_MATCH]}
_TURING: Final = {
    "expressions": [
        {"type": "exact", "field": "tasks.name", "value": "Predict"},
        {"type": "compare", "field": "cuda_version.version", "operator": "<=", "value": 11.8},
    ],
    "order_by": [{"field": "name"}],
}
LIST_IMAGES: Final = listing(DockerImage, _TURING)
CREATE_IMAGE: Final = _route(201, DockerImage, 413, 415, extra=_WHOLE)
RETRIEVE_IMAGE: Final = _route(200, DockerImage, 404)
UPDATE_IMAGE: Final = _route(200, DockerImage, 404, 412, 413, 415, extra=_WHOLE | _MATCHED)
PATCH_IMAGE: Final = _route(
    200,
    DockerImage,
    *(404, 412, 413, 415),
    extra=_body(_object(_FIELDS, []), {"cpu": True}) | _MATCHED,
)
DESTROY_IMAGE: Final = _route(204, None, 404, 409, 412, extra=_MATCHED)


# --- rows of the tables

_KINDS: Final[Mapping[Kind, Schema]] = {
    Kind.TEXT: {"type": ["string", "number"]},
    Kind.VERSION: {"type": ["string", "number"], "description": "A decimal with one place."},
    Kind.NUMBER: {"type": ["number", "string"]},
    Kind.URL: {"type": "string", "format": "uri"},
}


def _row_body(table: Table, *, partial: bool) -> dict[str, Any]:
    schemas = {
        field.name: {
            **_KINDS[field.kind],
            **({} if field.is_numeric else {"maxLength": field.most}),
        }
        for field in table.own
    }
    required = [] if partial else list(schemas)
    example = dict.fromkeys(schemas, "…")
    return _body(_object(schemas, required), example)


def list_rows(table: Table) -> dict[str, Any]:
    by_first = {"order_by": [{"field": table.fields[0].name}]}
    return listing(dict[str, Any], by_first)


def create_row(table: Table) -> dict[str, Any]:
    return _route(201, dict[str, Any], 413, 415, extra=_row_body(table, partial=False))


def change_row(table: Table, *, partial: bool) -> dict[str, Any]:
    extra = _row_body(table, partial=partial) | _MATCHED
    return _route(200, dict[str, Any], 404, 412, 413, 415, extra=extra)


RETRIEVE_ROW: Final = _route(200, dict[str, Any], 404)
DESTROY_ROW: Final = _route(204, None, 404, 409, 412, extra=_MATCHED)
FIND_HARDWARE: Final = _route(200, dict[str, Any])
ALL_VALUES: Final = _route(200, list[dict[str, Any]])
_SUBDESCRIPTORS: Final = _object(
    {
        "method": {"enum": ["add", "remove"]},
        "type": {"enum": ["permissions", "conditions", "limitations", "domains"]},
        "names": {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 100}},
    },
    ["method", "type", "names"],
)
RELIST: Final = _route(
    200,
    dict[str, Any],
    *(404, 412, 413, 415),
    extra=_body(
        _SUBDESCRIPTORS, {"method": "add", "type": "conditions", "names": ["State changes"]}
    )
    | _MATCHED,
)
