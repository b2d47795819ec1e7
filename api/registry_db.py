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

from api import registry_descriptions as described
from api.auth import GuardedRoute, needs
from api.deps import Hub, Yard
from api.registry_answers import success, success_page
from pipeline.core.event_watches import Watch
from pipeline.errors import NotFound, Timeout
from pipeline.rules import filters, registry_entries, registry_queries, strict_json
from pipeline.rules.filters import Limits
from pipeline.rules.strict_json import Json
from pipeline.services import Services
from pipeline.settings import Settings
from schemas.access import Permission, Principal
from schemas.registry import Registry, RegistryHealth

router = APIRouter(tags=["registry directory"], route_class=GuardedRoute)

Viewer = Annotated[Principal, needs(Permission.REGISTRY_VIEW)]
Writer = Annotated[Principal, needs(Permission.REGISTRY_WRITE)]

SMALL = 16 * 1024
"""Bytes that are read at once; a longer body is read in a thread."""


@router.post("/container_registry", status_code=201, **described.CREATE)
async def create_container_registry(request: Request, caller: Writer, yard: Yard) -> Response:
    """Enter a registry. It is not contacted now: a worker will, and records what it finds."""
    registry = await yard.directory.entries.create(caller, await _read(request, yard))
    id = registry.container_registry_id
    return success({"message": "Container registry created", "id": id}, 201)


@router.get("/container_registry/{registry_id}", **described.READ)
async def get_container_registry(registry_id: str, caller: Viewer, yard: Yard) -> Response:
    """One entry, with what the last check of it found."""
    with _called("No document found"):
        registry = await yard.directory.entries.get(caller, registry_id)
    return success(registry_entries.shown(registry.model_dump()))


@router.put("/container_registry/{registry_id}", **described.UPDATE)
async def update_container_registry(
    registry_id: str, request: Request, caller: Writer, yard: Yard
) -> Response:
    """Change an entry by update operators, or by a partial document, which is the same as `$set`.

    All of it happens or nothing.
    """
    body = await _read(request, yard)
    with _called("No document found to update"):
        await yard.directory.entries.update(caller, registry_id, body)
    return success({"message": "Container registry updated"})


@router.delete("/container_registry/{registry_id}", **described.DELETE)
async def delete_container_registry(registry_id: str, caller: Writer, yard: Yard) -> Response:
    """Remove an entry. The registry itself is left alone."""
    with _called("No document found to delete"):
        await yard.directory.entries.delete(caller, registry_id)
    return success({"message": "Container registry deleted"})


@router.post("/container_registries", **described.QUERY)
async def query_container_registries(request: Request, caller: Viewer, yard: Yard) -> Response:
    """Entries that match a filter. The body is the filter itself; `{}` matches all."""
    filter = filters.read(await request.body(), _limits(yard.settings))
    paging = registry_queries.paging(request.query_params)
    found = await yard.directory.entries.query(caller, filter, paging)
    return await success_page(found.documents, {"X-Total-Count": str(found.total)})


@router.get("/check_container_health/{registry_id}", **described.CHECK)
async def check_container_health(
    registry_id: str, caller: Viewer, yard: Yard, hub: Hub
) -> Response:
    """Have a worker look at a registry now. Unreachable is a result, too."""
    with _called("Container registry not found"):
        registry = await yard.directory.entries.get(caller, registry_id)
        with hub.watch(caller.org, Registry.resource, registry.uuid) as watch:
            ask = await yard.directory.checks.ask(caller, registry.uuid)
            health = await _answer(watch, yard, caller, registry.uuid, ask)
    return success(registry_entries.shown_health(health.model_dump()))


async def _answer(
    watch: Watch, yard: Services, caller: Principal, uuid: str, ask: str
) -> RegistryHealth:
    """Raises Timeout. Events say when to look, the record says what is."""
    loop = asyncio.get_running_loop()
    end = loop.time() + yard.settings.registry_health_wait_s
    while True:
        moved = await watch.moved(max(0, end - loop.time()))
        health = await yard.directory.checks.answer(caller, uuid, ask)
        if health is not None:
            return health
        if not moved:
            raise Timeout(
                "No worker has looked at the registry yet; its result will be in the document.",
                operation=ask,
            )


def _limits(settings: Settings) -> Limits:
    return Limits(
        depth=settings.filter_depth_max,
        elements=settings.filter_elements_max,
        pattern_chars=settings.filter_pattern_max_chars,
        body_bytes=settings.filter_body_max_bytes,
    )


async def _read(request: Request, yard: Services) -> Json:
    """Raises InvalidInput."""
    body = await request.body()
    most = yard.settings.body_max_bytes
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
