"""The door `/yard/v1`."""

from __future__ import annotations

from fastapi import FastAPI

from api.http.problem_details import ErrorRenderers
from api.yard import (
    access,
    builds,
    catalog,
    container_streams,
    containers,
    deployments,
    images,
    messages,
    nodes,
    organisations,
    registries,
    uploads,
    volumes,
    webhooks,
)

ROUTERS = (
    images.archives,  # before its neighbour on the same path: it takes archives only
    images.router,
    builds.contexts,  # as above
    builds.router,
    uploads.router,
    uploads.open_router,
    containers.router,
    containers.stats,
    container_streams.router,
    volumes.router,
    deployments.router,
    nodes.router,
    catalog.router,
    messages.events,
    messages.dead_letters,
    access.tokens,
    access.sessions,
    access.own,
    organisations.router,
    organisations.users,
    registries.router,
    registries.secrets,
    webhooks.router,
)


def mount(app: FastAPI, renderers: ErrorRenderers) -> None:
    for router in ROUTERS:
        app.include_router(router)
    renderers.register(uploads.PREFIX, uploads.render)
