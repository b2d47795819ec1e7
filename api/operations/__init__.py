"""Health, metrics and descriptions of the server."""

from __future__ import annotations

from fastapi import FastAPI

from api.http.problem_details import ErrorRenderers
from api.operations import docs, monitoring, registry_tokens


def mount(app: FastAPI, renderers: ErrorRenderers) -> None:
    for part in (monitoring, docs, registry_tokens):
        app.include_router(part.router)
