"""The door of the registry directory."""

from __future__ import annotations

from fastapi import FastAPI

from api.http.problem_details import ErrorRenderers
from api.http.routing import add_routes
from api.registry_db import documents, routes


def mount(app: FastAPI, renderers: ErrorRenderers) -> None:
    add_routes(app, routes.router)
    for prefix in documents.PREFIXES:
        renderers.register(prefix, documents.render)
