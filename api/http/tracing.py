"""A span for every request, which continues the caller's trace."""

from __future__ import annotations

from opentelemetry.trace import Span, SpanKind, StatusCode
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.telemetry import is_recording, span

NOT_TRACED = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked every few seconds, by machines."""


class Traced:
    """Names spans after OpenTelemetry's conventions: method and path template of the route.

    Where nothing is recorded, a caller's trace is passed on to what follows from his request.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in NOT_TRACED:
            await self._app(scope, receive, send)
            return
        parent = _traceparent(scope)
        if parent is None and not is_recording():
            await self._app(scope, receive, send)
            return
        method = scope["method"]
        attributes = {"http.request.method": method}
        with span(
            method, traceparent=parent, kind=SpanKind.SERVER, attributes=attributes
        ) as current:

            async def told(message: Message) -> None:
                if message["type"] == "http.response.start" and current.is_recording():
                    _describe(current, scope, message["status"])
                await send(message)

            await self._app(scope, receive, told)


def _traceparent(scope: Scope) -> str | None:
    """None for several: it is not known which one counts."""
    given = [value for name, value in scope["headers"] if name == b"traceparent"]
    return given[0].decode("latin-1") if len(given) == 1 else None


def _describe(current: Span, scope: Scope, status: int) -> None:
    current.set_attribute("http.response.status_code", status)
    # The template: the path itself may hold what callers made up.
    if route := getattr(scope.get("route"), "path", None):
        current.update_name(f"{scope['method']} {route}")
        current.set_attribute("http.route", route)
    if status >= 500:
        current.set_status(StatusCode.ERROR)
