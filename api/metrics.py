"""What Prometheus scrapes, and the middleware that counts requests."""

from __future__ import annotations

import time
from collections.abc import Iterator

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
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.answers import problems
from api.auth import OpenRoute, admit
from pipeline.core.event_hub import EventHub
from schemas.access import Permission

router = APIRouter(tags=["health"], route_class=OpenRoute)

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
        ProcessCollector(registry=self.registry)

    def follow(self, hub: EventHub) -> None:
        self.registry.register(_HubNumbers(hub))


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
            "modelyard_event_overflows", "Readers cut off for being slow.", hub.overflows
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
        key = (scope["method"], _template(scope), status)
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
    return Response(generate_latest(app.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _template(scope: Scope) -> str:
    """`/yard/v1/images/{uuid}`: bounded, whatever callers ask for."""
    return getattr(scope.get("route"), "path", None) or UNKNOWN
