"""`/v1/docker`: the images of the catalogue."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Annotated, Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.docker_catalog import descriptions as described
from api.docker_catalog.answers import (
    CatalogRoute,
    key_of,
    note_node,
    optional_slash,
    paging,
    read_object,
    read_value,
    require_match,
    single,
)
from api.http.answers import JSON
from api.http.auth import ServicesDep, needs
from pipeline.bootstrap.control_plane import Services
from pipeline.catalog import drafts
from pipeline.catalog.service import may_see_passwords
from pipeline.catalog.snapshot import Snapshot
from pipeline.mongo_language import filter_spec
from pipeline.mongo_language.filter_spec import Specification
from schemas.access import Permission, Principal
from schemas.registries.catalog import CatalogEntry

PREFIX: Final = "/v1/docker"
BREATH: Final = 500
"""Images that are written without a pause for others."""

router = APIRouter(prefix=PREFIX, tags=["docker images"], route_class=CatalogRoute)

Viewer = Annotated[Principal, needs(Permission.CATALOG_VIEW)]
Writer = Annotated[Principal, needs(Permission.CATALOG_WRITE)]


@optional_slash(router.add_api_route, "/list", method="POST", **described.LIST_IMAGES)
async def list_docker_images(request: Request, caller: Viewer, services: ServicesDep) -> Response:
    """Images that match a filter, in order; an empty body asks for all."""
    specification = filter_spec.parse(await read_value(request))
    limit, offset = paging(request)
    return await found_images(services, caller, specification, limit, offset)


@optional_slash(
    router.add_api_route, "/create", method="POST", status_code=201, **described.CREATE_IMAGE
)
async def create_docker_image(request: Request, caller: Writer, services: ServicesDep) -> Response:
    """Enter an image. A worker validates it afterwards: see `/yard/v1/catalog/{pk}`."""
    entry = await services.catalog.service.create(caller, await read_object(request))
    return await _answer(services, caller, entry, 201, {"Location": f"{PREFIX}/{entry.pk}"})


@optional_slash(router.add_api_route, "/{pk}", method="GET", **described.RETRIEVE_IMAGE)
async def retrieve_docker_image(
    request: Request, pk: str, caller: Viewer, services: ServicesDep
) -> Response:
    """One image. Its password is shown to staff and to nodes, to others it is null."""
    entry = await services.catalog.service.get(caller, key_of(pk))
    note_node(request)
    return await _answer(services, caller, entry)


@optional_slash(router.add_api_route, "/{pk}", method="PUT", **described.UPDATE_IMAGE)
async def update_docker_image(
    request: Request, pk: str, caller: Writer, services: ServicesDep
) -> Response:
    """Change an image; optional fields that are left out stay as they are."""
    return await _changed(request, caller, services, pk, partial=False)


@optional_slash(router.add_api_route, "/{pk}", method="PATCH", **described.PATCH_IMAGE)
async def partial_update_docker_image(
    request: Request, pk: str, caller: Writer, services: ServicesDep
) -> Response:
    """Change the fields of an image that are sent."""
    return await _changed(request, caller, services, pk, partial=True)


@optional_slash(
    router.add_api_route, "/{pk}", method="DELETE", status_code=204, **described.DESTROY_IMAGE
)
async def destroy_docker_image(
    request: Request, pk: str, caller: Writer, services: ServicesDep
) -> Response:
    """Remove an image for good, unless a container or deployment uses it."""
    catalog = services.catalog.service
    entry = await catalog.get(caller, key_of(pk))
    edition = require_match(request, entry.edition)
    note_node(request)
    await catalog.delete(caller, entry.pk, edition=edition)
    return Response(status_code=204)


async def _changed(
    request: Request, caller: Principal, services: Services, pk: str, *, partial: bool
) -> Response:
    catalog = services.catalog.service
    entry = await catalog.get(caller, key_of(pk))
    edition = require_match(request, entry.edition)
    body = await read_object(request)
    entry = await catalog.update(caller, entry.pk, body, partial=partial, edition=edition)
    return await _answer(services, caller, entry)


async def _answer(
    services: Services,
    caller: Principal,
    entry: CatalogEntry,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> Response:
    shown = services.catalog.service.shown(caller, entry, await services.catalog.rows.snapshot())
    return single(shown, entry.edition, status, headers)


async def found_images(
    services: Services, caller: Principal, specification: Specification, limit: int, offset: int
) -> Response:
    """Those that match, as one array."""
    found, rows = await services.catalog.service.query(
        caller, specification, limit=limit, offset=offset
    )
    body = await _array(services, caller, found.documents, rows)
    return Response(body, headers={"X-Total-Count": str(found.total)}, media_type=JSON)


async def _array(
    services: Services, caller: Principal, documents: Iterable[dict[str, Any]], rows: Snapshot
) -> bytes:
    """Others have their turns while it is written."""
    is_open = may_see_passwords(caller)
    parts: list[str] = []
    for document in documents:
        password = None
        if is_open and (sealed := document.get("sealed_password")):
            password = services.catalog.service.opened(caller.org, document["pk"], sealed)
        parts.append(json.dumps(drafts.shown(document, rows, password)))
        if len(parts) % BREATH == 0:
            await asyncio.sleep(0)
    return f"[{','.join(parts)}]".encode()
