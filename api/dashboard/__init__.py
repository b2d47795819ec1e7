"""The page at `/`."""

from __future__ import annotations

from fastapi import FastAPI

from api.dashboard import routes
from api.http.problem_details import ErrorRenderers


def mount(app: FastAPI, renderers: ErrorRenderers) -> None:
    app.include_router(routes.router)
