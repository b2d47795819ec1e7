"""The registry directory: `/container_registry`, `/container_registries`,
`/check_container_health`.

Bodies are JSON whatever their content type says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.http.auth import GuardedRoute, HubDep, ServicesDep, needs
from api.registry_db import descriptions as described
from api.registry_db import documents
from api.registry_db.documents import success, success_page
from pipeline import strict_json
from pipeline.bootstrap.control_plane import Services
from pipeline.errors import NotFound, Timeout
from pipeline.mongo_language import filters
from pipeline.mongo_language.tree import Limits
from pipeline.registries import entries, wire
from pipeline.settings import Settings
from pipeline.strict_json import Json
from schemas.access import Permission, Principal
from schemas.registries.registry import Registry, RegistryHealth

router = APIRouter(tags=["registry directory"], route_class=GuardedRoute)

Viewer = Annotated[Principal, needs(Permission.REGISTRY_VIEW)]
Writer = Annotated[Principal, needs(Permission.REGISTRY_WRITE)]

SMALL = 16 * 1024
"""Bytes that are read at once; a longer body is read in a thread."""


@router.post("/container_registry", status_code=201, **described.CREATE)
async def create_container_registry(
    request: Request, caller: Writer, services: ServicesDep
) -> Response:
    """Enter a registry. It is not contacted now: a worker will, and records what it finds."""
    draft = wire.read(await _read(request, services))
    with wire.errors():
        registry = await services.registries.service.create(caller, draft)
    return success({"message": "Container registry created", "id": registry.id}, 201)


@router.get("/container_registry/{registry_id}", **described.READ)
async def get_container_registry(
    registry_id: str, caller: Viewer, services: ServicesDep
) -> Response:
    """One entry, with what the last check of it found."""
    with _called("No document found"):
        registry = await services.registries.service.get(caller, registry_id)
    return success(documents.shown(registry.model_dump()))


@router.put("/container_registry/{registry_id}", **described.UPDATE)
async def update_container_registry(
    registry_id: str, request: Request, caller: Writer, services: ServicesDep
) -> Response:
    """Change an entry by update operators, or by a partial document, which is the same as `$set`.

    All of it happens or nothing.
    """
    edit = await asyncio.to_thread(wire.read_update, await _read(request, services))
    with _called("No document found to update"), wire.errors():
        await services.registries.service.update(caller, registry_id, edit)
    return success({"message": "Container registry updated"})


@router.delete("/container_registry/{registry_id}", **described.DELETE)
async def delete_container_registry(
    registry_id: str, caller: Writer, services: ServicesDep
) -> Response:
    """Remove an entry. The registry itself is left alone."""
    with _called("No document found to delete"):
        await services.registries.service.delete(caller, registry_id)
    return success({"message": "Container registry deleted"})


@router.post("/container_registries", **described.QUERY)
async def query_container_registries(
    request: Request, caller: Viewer, services: ServicesDep
) -> Response:
    """Entries that match a filter. The body is the filter itself; `{}` matches all."""
    filter = filters.read(await request.body(), _limits(services.settings))
    paging = documents.paging(request.query_params)
    found = await services.registries.service.query(caller, filter, documents.SEARCHED, paging)
    shown = map(documents.shown, found.documents)
    return await success_page(shown, {"X-Total-Count": str(found.total)})


@router.get("/check_container_health/{registry_id}", **described.CHECK)
async def check_container_health(
    registry_id: str, caller: Viewer, services: ServicesDep, hub: HubDep
) -> Response:
    """Have a worker look at a registry now. Unreachable is a result, too."""
    with _called("Container registry not found"):
        registry = await services.registries.service.get(caller, registry_id)
        with hub.watch(caller.org, Registry.resource, registry.uuid) as watch:
            ask = await services.registries.checks.ask(caller, registry.uuid)

            async def look(_: RegistryHealth | None) -> RegistryHealth | None:
                return await services.registries.checks.answer(caller, registry.uuid, ask)

            wait_s = services.settings.registry_health_wait_s
            health = await watch.until(lambda health: health is not None, None, look, wait_s=wait_s)
    if health is None:
        told = "No worker has looked at the registry yet; its result will be in the document."
        raise Timeout(told, operation=ask)
    return success(entries.shown_health(health.model_dump()))


def _limits(settings: Settings) -> Limits:
    return Limits(
        depth=settings.filter_depth_max,
        elements=settings.filter_elements_max,
        pattern_chars=settings.filter_pattern_max_chars,
        body_bytes=settings.filter_body_max_bytes,
    )


async def _read(request: Request, services: Services) -> Json:
    """Raises InvalidInput."""
    body = await request.body()
    most = services.settings.body_max_bytes
    if len(body) <= SMALL:
        return strict_json.read(body, max_bytes=most)
    return await asyncio.to_thread(strict_json.read, body, max_bytes=most)


@contextmanager
def _called(missing: str) -> Iterator[None]:
    """Says about an unknown id what this route says about it."""
    try:
        yield
    except NotFound as error:
        raise NotFound(missing) from error
