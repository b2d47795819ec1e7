"""The door `/api/models`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI

    from api.http.problem_details import ErrorRenderers


def mount(app: FastAPI, renderers: ErrorRenderers) -> None:
    """`app.state.model_errors` then makes the failures of the door."""
    # Not before: workers load this package for its event view, and not FastAPI.
    from api.http.routing import add_routes
    from api.models import files, routes
    from api.models.bodies import PREFIX, ErrorBodies

    add_routes(app, routes.router, files.router)
    settings = app.state.settings
    app.state.model_errors = ErrorBodies(settings.report_url or f"{settings.url}/docs")
    renderers.register(PREFIX, app.state.model_errors)
