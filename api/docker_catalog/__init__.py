"""The door of the Docker image catalogue: `/v1`."""

from __future__ import annotations

from fastapi import FastAPI

from api.docker_catalog import answers, auth, images, tables
from api.http.problem_details import ErrorRenderers
from api.http.routing import add_routes

OPEN_TO_OTHER_ORIGINS = (answers.PREFIX,)
"""Unless it is configured otherwise."""


def mount(app: FastAPI, renderers: ErrorRenderers) -> None:
    add_routes(app, auth.router, images.router)
    tables.mount(app)
    renderers.register(answers.PREFIX, answers.render)
