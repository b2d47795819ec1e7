"""The application: doors, error shapes and middleware put together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial

from fastapi import FastAPI
from starlette.middleware import Middleware

from api import (
    activation,
    container_svc,
    dashboard,
    docker_catalog,
    imported_containers,
    models,
    operations,
    registry_db,
    yard,
)
from api.http.middleware import HeadAsGet, Methods, OtherOrigins, RequestIds, SpeaksForTus
from api.http.problem_details import ErrorRenderers, Unforeseen, install
from api.http.tracing import Traced
from api.operations import docs
from api.operations.monitoring import Counted, Metrics
from api.yard import uploads
from pipeline.bootstrap.control_plane import Services, open_services, prepare
from pipeline.errors import YardError
from pipeline.events.hub import EventHub
from pipeline.settings import Settings
from pipeline.uploads import tus

log = logging.getLogger(__name__)

DOORS = (
    *(yard, models, registry_db, imported_containers, container_svc, docker_catalog),
    *(activation, operations, dashboard),
)
"""Each mounts its routes and says how its failures look."""

READABLE = (
    *(*tus.ANSWERED, "ETag", "Idempotency-Replayed", "Link", "Location", "Retry-After"),
    "X-Total-Count",
)
"""What scripts of other origins may read of an answer besides what all may."""
Opener = Callable[[], AbstractAsyncContextManager[tuple[Services, EventHub]]]


def create(settings: Settings, opener: Opener | None = None) -> FastAPI:
    """An application that opens its services when it starts.

    `app.state` then holds `settings`, `services`, `hub`, `metrics`, `renderers`, and `draining`, an
    event that is set when the server stops.

    A request passes, from outside to inside: `server.protocol` (heads that are late or malformed;
    answers to HTTP/1.0), `DrainRequest` (early answers arrive), the `middleware` below in its
    order, the route with its guard (`http.auth`), and the error handlers. What none of these
    foresaw is answered by `Unforeseen`.
    """
    metrics, renderers = Metrics(), ErrorRenderers()
    app = FastAPI(
        lifespan=_lifespan(opener or partial(opened, settings)),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=docs.operation_id,
    )
    app.state.settings, app.state.metrics, app.state.renderers = settings, metrics, renderers
    for door in DOORS:
        door.mount(app, renderers)
    methods = app.state.methods = Methods(app)
    install(app, renderers, methods)
    app.user_middleware = [
        _other_origins(settings),
        Middleware(SpeaksForTus, prefix=uploads.PREFIX),
        Middleware(RequestIds),
        Middleware(Traced),
        Middleware(HeadAsGet, methods=methods),
        Middleware(Counted, metrics=metrics),
        Middleware(Unforeseen, renderers=renderers),
    ]
    return app


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[tuple[Services, EventHub]]:
    """The real services, with what they need in the store and the broker made first."""
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(open_services(settings, name="api"))
        await prepare(services)
        await services.access.bootstrap()
        frames = settings.event_buffer_frames
        hub = await stack.enter_async_context(EventHub.open(services.bus, buffer_frames=frames))
        hub.observe(services.access.heard)
        await stack.enter_async_context(services.uploads.ingesting.running())
        yield services, hub


def drain(app: FastAPI) -> None:
    """Tell endless answers and waiting calls to come to an end. Idempotent."""
    app.state.draining.set()
    app.state.hub.drain()


def _other_origins(settings: Settings) -> Middleware:
    """Without a setting pages of every origin may call the doors whose contracts say so."""
    doors = list(container_svc.OPEN_TO_OTHER_ORIGINS)
    if not settings.origins:
        doors += docker_catalog.OPEN_TO_OTHER_ORIGINS
    return Middleware(OtherOrigins, doors=doors, origins=settings.origins, exposed=READABLE)


def _lifespan(opener: Opener) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            async with opener() as (services, hub):
                app.state.services, app.state.hub = services, hub
                app.state.draining = asyncio.Event()
                app.state.metrics.follow(hub)
                yield
                drain(app)
        except YardError as error:
            log.error("The API cannot run: %s", error.message)
            raise

    return lifespan
