"""The page at `/`."""

from __future__ import annotations

from fastapi import FastAPI

from api.dashboard import routes
from api.http.problem_details import ErrorRenderers
from api.http.routing import add_routes


def mount(app: FastAPI, renderers: ErrorRenderers) -> None:
    add_routes(app, routes.router)
