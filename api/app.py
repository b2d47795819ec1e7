"""The application: doors, error shapes and middleware put together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial

from fastapi import FastAPI

from api import (
    bodies,
    container_calls,
    containers,
    dashboard,
    dead_letters,
    detail_answers,
    docs,
    events,
    failures,
    health,
    image_archives,
    images,
    logs,
    metrics,
    models,
    models_files,
    models_image,
    models_load,
    models_run,
    models_serve,
    nodes,
    registries,
    registry_answers,
    registry_db,
    secrets,
    sessions,
    tokens,
    uploads,
    yard_secrets,
)
from api.doors import Doors
from api.methods import HeadAsGet, Methods
from api.metrics import Counted, Metrics
from api.models_errors import PREFIX as MODELS_DOOR
from api.models_errors import ErrorBodies
from pipeline.core.event_hub import EventHub
from pipeline.errors import YardError
from pipeline.services import Services, open_hub, open_services
from pipeline.settings import Settings

log = logging.getLogger(__name__)

ROUTERS = (
    # Before its neighbour on the same path: it takes archives only.
    image_archives.router,
    images.router,
    uploads.router,
    uploads.open_router,
    containers.router,
    container_calls.router,
    logs.router,
    nodes.router,
    events.router,
    dead_letters.router,
    tokens.router,
    sessions.router,
    models.router,
    models_image.router,
    models_load.router,
    models_files.router,
    models_run.router,
    models_serve.router,
    registry_db.router,
    registries.router,
    secrets.router,
    yard_secrets.router,
    health.router,
    metrics.router,
    docs.router,
    dashboard.router,
)

Opener = Callable[[], AbstractAsyncContextManager[tuple[Services, EventHub]]]


def create(settings: Settings, opener: Opener | None = None) -> FastAPI:
    """An application that opens its services when it starts.

    `app.state` then holds `services`, `hub`, `metrics`, `doors`, and `draining`, an event that is
    set when the server stops.
    """
    app = FastAPI(
        lifespan=_lifespan(opener or partial(opened, settings)),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=docs.operation_id,
    )
    app.openapi = partial(docs.describe, app)  # type: ignore[method-assign]
    app.state.doors = doors = Doors()
    app.state.metrics = measured = Metrics()
    app.state.model_errors = ErrorBodies(settings.report_url or f"{settings.url}/docs")
    doors.register(MODELS_DOOR, app.state.model_errors)
    for prefix in registry_answers.PREFIXES:
        doors.register(prefix, registry_answers.render)
    for prefix in secrets.PREFIXES:
        doors.register(prefix, detail_answers.render)
    doors.register(uploads.PREFIX, uploads.render)
    for router in ROUTERS:
        app.include_router(router)
    methods = Methods(app)
    failures.install(app, doors, methods)
    # The last one added sees a request first.
    app.add_middleware(
        bodies.BodyCap, max_bytes=settings.body_max_bytes, silence_s=settings.request_silence_s
    )
    app.add_middleware(failures.Unforeseen, doors=doors)
    app.add_middleware(Counted, metrics=measured)
    app.add_middleware(HeadAsGet, methods=methods)
    return app


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[tuple[Services, EventHub]]:
    """The real services, with what they need in the store and the broker made first."""
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(open_services(settings, name="api"))
        await services.store.prepare()
        await services.bus.prepare()
        await services.access.bootstrap()
        hub = await stack.enter_async_context(open_hub(services))
        await stack.enter_async_context(services.uploading.upload_ingest.running())
        yield services, hub


def drain(app: FastAPI) -> None:
    """Tell endless answers and waiting calls to come to an end. Idempotent."""
    app.state.draining.set()
    app.state.hub.drain()


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
