"""Health, metrics and descriptions of the server."""

from __future__ import annotations

from fastapi import FastAPI

from api.http.problem_details import ErrorRenderers
from api.http.routing import add_routes
from api.operations import docs, monitoring, registry_tokens


def mount(app: FastAPI, renderers: ErrorRenderers) -> None:
    add_routes(app, monitoring.router, docs.router, registry_tokens.router)
