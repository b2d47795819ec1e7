"""How routes get into an application."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute


def add_routes(app: FastAPI, *routers: APIRouter) -> None:
    """In the order given, which decides between paths that match both.

    The routes themselves, not `include_router`: that builds each of them and its models a second
    time, for every application, for prefixes and dependencies that none of ours gets there.
    """
    for router in routers:
        for route in router.routes:
            if isinstance(route, APIRoute) and route.operation_id is None:
                route.unique_id = app.router.generate_unique_id_function(route)
        app.router.routes.extend(router.routes)
