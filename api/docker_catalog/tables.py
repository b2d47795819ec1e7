"""The tables that images refer to: `/v1/cuda`, `/v1/frameworks`, …; the same actions for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from fastapi import APIRouter, FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api.docker_catalog import descriptions as described
from api.docker_catalog.answers import (
    CatalogRoute,
    json_answer,
    key_of,
    note_node,
    optional_slash,
    paging,
    read_object,
    read_value,
    require_match,
    single,
)
from api.docker_catalog.images import Viewer, Writer, found_images
from api.http.auth import ServicesDep
from api.http.routing import add_routes
from pipeline.bootstrap.control_plane import Services
from pipeline.catalog import tables
from pipeline.catalog.fields import Wrong, number, text
from pipeline.catalog.search_fields import matching_rows, ordered_rows
from pipeline.catalog.tables import TABLES, Table
from pipeline.errors import PermissionDenied
from pipeline.mongo_language import filter_spec
from schemas.access import Principal
from schemas.registries.catalog import CatalogRow, TableName

ALIASES: Final = {TableName.LICENCES: "licenses"}
METHODS: Final = ("add", "remove")
NAMES_MAX: Final = 1000
_ALL_VALUES: Final = {
    "CUDAVersion": TableName.CUDA,
    "Framework": TableName.FRAMEWORKS,
    "Hardware": TableName.HARDWARE,
    "Domain": TableName.DOMAINS,
}


def mount(app: FastAPI) -> None:
    add_routes(app, _extra, *_routers())


@cache
def _routers() -> Sequence[APIRouter]:
    """Made once, for every application."""
    routers = [_subdescriptors("licences"), _subdescriptors("licenses", is_documented=False)]
    routers += [_router(table, table.name.value) for table in TABLES.values()]
    others = ALIASES.items()
    return routers + [_router(TABLES[name], other, is_documented=False) for name, other in others]


def _empty(segment: str, *, is_documented: bool) -> APIRouter:
    return APIRouter(
        prefix=f"/v1/{segment}",
        tags=["docker images"],
        route_class=CatalogRoute,
        include_in_schema=is_documented,
    )


def _router(table: Table, segment: str, *, is_documented: bool = True) -> APIRouter:
    """The actions of one table."""
    prefix = f"/v1/{segment}"
    router = _empty(segment, is_documented=is_documented)
    add, name = router.add_api_route, segment.replace("-", "_")

    async def list_rows(request: Request, caller: Viewer, services: ServicesDep) -> Response:
        return await _list(request, services, table)

    async def create_row(request: Request, caller: Writer, services: ServicesDep) -> Response:
        _require_writable(table)
        body = await read_object(request)
        row = await services.catalog.rows.create(caller, table, body)
        return _shown(row, 201, {"Location": f"{prefix}/{row.pk}"})

    async def get_row(request: Request, pk: str, caller: Viewer, services: ServicesDep) -> Response:
        row = await services.catalog.rows.get(table, key_of(pk))
        note_node(request)
        return _shown(row)

    async def put_row(request: Request, pk: str, caller: Writer, services: ServicesDep) -> Response:
        return await _change(request, caller, services, table, pk, partial=False)

    async def patch_row(
        request: Request, pk: str, caller: Writer, services: ServicesDep
    ) -> Response:
        return await _change(request, caller, services, table, pk, partial=True)

    async def delete_row(
        request: Request, pk: str, caller: Writer, services: ServicesDep
    ) -> Response:
        return await _delete(request, caller, services, table, pk)

    def route(path: str, method: str, verb: str, endpoint: Any, told: Any, status: int) -> None:
        text = _TEXTS[verb].format(table.what)
        options = {"name": f"{verb}_{name}", "description": text, "status_code": status}
        optional_slash(add, path, method=method, **options, **told)(endpoint)

    route("/list", "POST", "list", list_rows, described.list_rows(table), 200)
    route("/create", "POST", "create", create_row, described.create_row(table), 201)
    route("/{pk}", "GET", "retrieve", get_row, described.RETRIEVE_ROW, 200)
    changed = described.change_row(table, partial=False)
    route("/{pk}", "PUT", "update", put_row, changed, 200)
    changed = described.change_row(table, partial=True)
    route("/{pk}", "PATCH", "partial_update", patch_row, changed, 200)
    route("/{pk}", "DELETE", "destroy", delete_row, described.DESTROY_ROW, 204)
    return router


_TEXTS: Final = {
    "list": "Rows of the table that match a filter: each is a {}.",
    "create": "Enter a {}.",
    "retrieve": "One {}.",
    "update": "Change a {}.",
    "partial_update": "Change the fields of a {} that are sent.",
    "destroy": "Remove a {} that no image uses.",
}


async def _list(request: Request, services: Services, table: Table) -> Response:
    specification = filter_spec.parse(await read_value(request))
    limit, offset = paging(request)
    rows = (await services.catalog.rows.snapshot()).rows(table.name)
    found = matching_rows(table, rows, specification.expressions)
    page = ordered_rows(table, found, specification.order)[offset:][:limit]
    return json_answer([tables.shown(row) for row in page], 200, {"X-Total-Count": str(len(found))})


async def _change(
    request: Request, caller: Principal, services: Services, table: Table, pk: str, *, partial: bool
) -> Response:
    _require_writable(table)
    row = await services.catalog.rows.get(table, key_of(pk))
    edition = require_match(request, row.edition)
    body = await read_object(request)
    row = await services.catalog.rows.update(
        caller, table, row.pk, body, partial=partial, edition=edition
    )
    return _shown(row)


async def _delete(
    request: Request, caller: Principal, services: Services, table: Table, pk: str
) -> Response:
    _require_writable(table)
    row = await services.catalog.rows.get(table, key_of(pk))
    edition = require_match(request, row.edition)
    note_node(request)
    await services.catalog.rows.delete(caller, table, row.pk, edition=edition)
    return Response(status_code=204)


def _require_writable(table: Table) -> None:
    """Before anything else is looked at. Raises PermissionDenied."""
    if table.is_fixed:
        raise PermissionDenied(f"A {table.what} cannot be changed.")


def _shown(row: CatalogRow, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return single(tables.shown(row), row.edition, status, headers)


# --- what only some tables have

_extra = APIRouter(prefix="/v1", tags=["docker images"], route_class=CatalogRoute)


@optional_slash(
    _extra.add_api_route,
    "/hardware/get-hardware-generation/{number}",
    method="GET",
    **described.FIND_HARDWARE,
)
async def get_hardware_generation(
    request: Request, number: str, caller: Viewer, services: ServicesDep
) -> Response:
    """The generation that a compute capability belongs to."""
    note_node(request)
    capability = _number(number)
    for row in (await services.catalog.rows.snapshot()).rows(TableName.HARDWARE):
        values = row.values
        if values["min_compute_capability"] <= capability < values["max_compute_capability"]:
            return _shown(row)
    raise HTTPException(400, "No hardware generation has this compute capability.")


@optional_slash(
    _extra.add_api_route, "/job-types/get-all-values/{type}", method="GET", **described.ALL_VALUES
)
async def get_all_values(
    request: Request, type: str, caller: Viewer, services: ServicesDep
) -> Response:
    """All rows that a job type has for values: of `CUDAVersion`, `Framework`, `Hardware`,
    `Domain` and `DockerImage`."""
    note_node(request)
    if type == "DockerImage":
        everything = filter_spec.parse(None)
        limit, offset = paging(request)
        return await found_images(services, caller, everything, limit, offset)
    if type not in _ALL_VALUES:
        raise HTTPException(400, "The values of this type are not listed.")
    rows = (await services.catalog.rows.snapshot()).rows(_ALL_VALUES[type])
    return json_answer([tables.shown(row) for row in rows])


def _subdescriptors(segment: str, *, is_documented: bool = True) -> APIRouter:
    router = _empty(segment, is_documented=is_documented)

    async def change_subdescriptors(
        request: Request, pk: str, caller: Writer, services: ServicesDep
    ) -> Response:
        """Add names to a list of a licence, or remove them. Idempotent."""
        table = TABLES[TableName.LICENCES]
        row = await services.catalog.rows.get(table, key_of(pk))
        edition = require_match(request, row.edition)
        method, kind, names = _relisting(table, await read_object(request))
        row = await services.catalog.rows.relist(
            caller, table, row.pk, kind, method, names, edition=edition
        )
        return _shown(row)

    path = "/{pk}/subdescriptors"
    optional_slash(router.add_api_route, path, method="PATCH", **described.RELIST)(
        change_subdescriptors
    )
    return router


def _relisting(table: Table, body: dict[str, Any]) -> tuple[str, str, list[str]]:
    """HTTPException 400."""
    method, kind, names = body.get("method"), body.get("type"), body.get("names")
    if method not in METHODS:
        raise HTTPException(400, f"method is one of {', '.join(METHODS)}.")
    if kind not in table.lists:
        raise HTTPException(400, f"type is one of {', '.join(table.lists)}.")
    if not isinstance(names, list) or len(names) > NAMES_MAX:
        raise HTTPException(400, f"names is a list of at most {NAMES_MAX} texts.")
    try:
        if not all(isinstance(each, str) for each in names):
            raise Wrong("names is a list of texts.")
        return method, kind, [text(each, tables.ITEM_MAX) for each in names]
    except Wrong as error:
        raise HTTPException(400, f"names: {error}") from None


def _number(given: str) -> float:
    """HTTPException 400."""
    try:
        found = number(given)
    except Wrong:
        found = math.nan
    if math.isnan(found):
        raise HTTPException(400, "A compute capability is a number, for instance 7.5.")
    return found
