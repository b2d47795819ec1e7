"""The door of the registry directory."""

from __future__ import annotations

from fastapi import FastAPI

from api.http.problem_details import ErrorRenderers
from api.registry_db import documents, routes


def mount(app: FastAPI, renderers: ErrorRenderers) -> None:
    app.include_router(routes.router)
    for prefix in documents.PREFIXES:
        renderers.register(prefix, documents.render)
