"""The door `/yard/v1`."""

from __future__ import annotations

from fastapi import FastAPI

from api.http.problem_details import ErrorRenderers
from api.http.routing import add_routes
from api.yard import (
    access,
    builds,
    container_streams,
    containers,
    deployments,
    history,
    images,
    messages,
    nodes,
    organisations,
    uploads,
    volumes,
    webhooks,
)
from api.yard.history import audit
from api.yard.registries import catalog, directory, secrets

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
    directory.router,
    history.router,  # before the names of secrets: these may hold slashes
    secrets.router,
    webhooks.router,
    audit.router,
)


def mount(app: FastAPI, renderers: ErrorRenderers) -> None:
    add_routes(app, *ROUTERS)
    renderers.register(uploads.PREFIX, uploads.render)
