"""The door of imported containers."""

from __future__ import annotations

from fastapi import FastAPI

from api.http.problem_details import ErrorRenderers
from api.http.routing import add_routes
from api.imported_containers import answers, deployment_changes, deployments, model_repos, secrets

PREFIXES = (*secrets.PREFIXES, model_repos.PREFIX, deployments.PREFIX)


def mount(app: FastAPI, renderers: ErrorRenderers) -> None:
    add_routes(
        app, secrets.router, model_repos.router, deployments.router, deployment_changes.router
    )
    for prefix in PREFIXES:
        renderers.register(prefix, answers.render)
