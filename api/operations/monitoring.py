"""`/healthz`, `/readyz` and `/metrics`, with the middleware that counts requests."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Literal

from fastapi import APIRouter, Request
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import BaseModel
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.answers import JSON
from api.http.auth import OpenRoute, admit
from api.http.problem_details import problems
from api.operations.figures import SystemFigures
from pipeline.adapters.metrics import Counts
from pipeline.bootstrap.control_plane import Services
from pipeline.errors import BusUnavailable, RegistryUnavailable, YardError
from pipeline.events.hub import EventHub
from schemas.access import Permission
from schemas.registries.registry import RegistrySpace

log = logging.getLogger(__name__)
router = APIRouter(tags=["health"], route_class=OpenRoute)

CHECK_S = 3.0
"""Dependencies are asked at once, and none longer than this."""
OPTIONAL = frozenset({"registry"})
"""Without these the API answers all the same."""


class Dependency(BaseModel):
    status: Literal["ok", "failed"]
    required: bool
    latency_ms: float
    detail: str | None = None
    """Why it failed."""


class Readiness(BaseModel):
    status: Literal["ready", "not ready", "stopping"]
    dependencies: dict[str, Dependency]


class Health(BaseModel):
    status: Literal["alive"] = "alive"


@router.get("/healthz", response_model=Health)
async def healthz() -> Response:
    """The process answers. It asks nobody else: a broken dependency is no reason to restart."""
    return Response(Health().model_dump_json(), media_type=JSON)


@router.get(
    "/readyz",
    responses={200: {"model": Readiness}, 503: {"model": Readiness, "description": "Not ready."}},
)
async def readyz(request: Request) -> Response:
    """Whether it makes sense to send requests here, and each dependency by name."""
    app = request.app.state
    checks = _checks(app.services, app.hub)
    answers = await asyncio.gather(*(_one(name, check) for name, check in checks.items()))
    found = dict(zip(checks, answers, strict=True))
    failed = any(one.required and one.status == "failed" for one in found.values())
    stopping = app.draining.is_set()
    readiness = Readiness(
        status="stopping" if stopping else "not ready" if failed else "ready", dependencies=found
    )
    status = 503 if failed or stopping else 200
    return Response(
        readiness.model_dump_json(exclude_none=True),
        status,
        {"Cache-Control": "no-store"},
        media_type=JSON,
    )


def _checks(services: Services, hub: EventHub) -> Mapping[str, Callable[[], Awaitable[None]]]:
    async def streams() -> None:
        if missing := await services.bus.missing():
            raise BusUnavailable(f"Missing: {', '.join(missing)}.")

    async def events() -> None:
        if not hub.live:
            raise BusUnavailable("The events are not followed yet.")

    async def registry() -> None:
        health = await services.registries.client.ping(f"http://{services.settings.registry}")
        if not health.oci:
            raise RegistryUnavailable(health.reason or "It does not answer as a registry.")

    return {
        "store": services.records.store.ping,
        "bus": services.bus.ping,
        "streams": streams,
        "events": events,
        "registry": registry,
    }


async def _one(name: str, check: Callable[[], Awaitable[None]]) -> Dependency:
    began = time.perf_counter()
    detail = None
    try:
        async with asyncio.timeout(CHECK_S):
            await check()
    except YardError as error:
        detail = error.message
    except TimeoutError:
        detail = f"No answer within {CHECK_S:g} seconds."
    return Dependency(
        status="failed" if detail else "ok",
        required=name not in OPTIONAL,
        latency_ms=round((time.perf_counter() - began) * 1000, 1),
        detail=detail,
    )


BUCKETS_S = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
UNKNOWN = "(unknown)"
"""Paths of no route are counted together: callers must not make up time series."""


class Metrics:
    """Those of one application, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.seconds = Histogram(
            "modelyard_http_request_seconds",
            "Time until the answer began.",
            ("method", "route", "status"),
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "modelyard_http_requests_in_flight",
            "Requests whose answer has not ended.",
            registry=self.registry,
        )
        self._registry_bytes = Gauge(
            "modelyard_registry_bytes",
            "Bytes that the stack's registry holds (used), and of them what nothing refers to"
            " (reclaimable), as of the last look. No value for a registry that others run.",
            ("kind",),
            registry=self.registry,
        )
        ProcessCollector(registry=self.registry)
        self.registry.register(Counts())
        self.system = SystemFigures()
        self.registry.register(self.system)

    def show(self, space: RegistrySpace) -> None:
        """What was found out about the registry last."""
        if space.used_bytes is not None:
            self._registry_bytes.labels("used").set(space.used_bytes)
            self._registry_bytes.labels("reclaimable").set(space.reclaimable_bytes or 0)

    def follow(self, hub: EventHub) -> None:
        self.registry.register(_HubNumbers(hub))


async def _look(services: Services, metrics: Metrics) -> None:
    """Without store or broker the numbers of this process are told all the same."""
    metrics.system.show(None)
    try:
        async with asyncio.timeout(CHECK_S):
            metrics.show(await services.images.fence.space())
            metrics.system.show(await services.watching.monitoring.figures())
    except (YardError, TimeoutError) as error:
        log.warning("figures of the system are not told: %s", error)


class _HubNumbers(Collector):
    def __init__(self, hub: EventHub) -> None:
        self._hub = hub

    def collect(self) -> Iterator[Metric]:
        hub = self._hub
        yield GaugeMetricFamily("modelyard_event_readers", "Open event streams.", hub.readers)
        yield GaugeMetricFamily(
            "modelyard_event_head", "Sequence of the newest event passed on.", hub.head
        )
        yield CounterMetricFamily(
            "modelyard_event_resets", "Readers whose id could not be resumed.", hub.resets
        )
        yield CounterMetricFamily(
            "modelyard_event_readers_behind",
            "Times that a slow reader went back to the stream.",
            hub.fallen_behind,
        )


class Counted:
    """Times every request until its answer begins, under the path template of its route."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._children: dict[tuple[str, str, int], Histogram] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()

        async def timed(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._observe(scope, message["status"], time.perf_counter() - began)
            await send(message)

        self._metrics.in_flight.inc()
        try:
            await self._app(scope, receive, timed)
        finally:
            self._metrics.in_flight.dec()

    def _observe(self, scope: Scope, status: int, seconds: float) -> None:
        # Bounded, whatever callers ask for: `/yard/v1/images/{uuid}`.
        template = getattr(scope.get("route"), "path", None) or UNKNOWN
        key = (scope["method"], template, status)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._metrics.seconds.labels(*key)
        child.observe(seconds)


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"content": {CONTENT_TYPE_LATEST: {"schema": {"type": "string"}}}},
        **problems(),
    },
)
async def metrics(request: Request) -> Response:
    """For Prometheus. Needs a token with `node:view`, unless `MODELYARD_METRICS_OPEN` is set."""
    app = request.app.state
    if not app.services.settings.metrics_open:
        await admit(request, Permission.NODE_VIEW)
    await _look(app.services, app.metrics)
    return Response(generate_latest(app.metrics.registry), media_type=CONTENT_TYPE_LATEST)
