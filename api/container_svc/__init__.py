"""The door of the container service."""

from __future__ import annotations

from fastapi import FastAPI

from api.container_svc import answers, builds, containers, login, logs, nodes, system
from api.http.problem_details import ErrorRenderers
from api.http.routing import add_routes

PREFIXES = (nodes.PREFIX, login.PREFIX)
OPEN_TO_OTHER_ORIGINS = PREFIXES
"""Whatever is configured."""


def mount(app: FastAPI, renderers: ErrorRenderers) -> None:
    doors = (containers.router, builds.router, logs.router, system.router, login.router)
    add_routes(app, *doors)
    for prefix in PREFIXES:
        renderers.register(prefix, answers.render)
