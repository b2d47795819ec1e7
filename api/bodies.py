"""How much of a request body is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Endpoint = TypeVar("Endpoint", bound=Callable[..., object])

_STREAMS = "_modelyard_streams_body"


def streams_body(endpoint: Endpoint) -> Endpoint:
    """Marks an endpoint that reads its body piece by piece and caps it itself."""
    setattr(endpoint, _STREAMS, True)
    return endpoint


class BodyCap:
    """Refuses bodies over `max_bytes` with 413.

    A declared length is judged at the first read, so that a caller without a token hears 401
    first; a chunked body is cut off where it crosses the line. Endpoints marked with
    `streams_body` are left alone.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            receive = self._capped(scope, receive)
        await self._app(scope, receive, send)

    def _capped(self, scope: Scope, receive: Receive) -> Receive:
        seen = 0

        async def capped() -> Message:
            nonlocal seen
            if getattr(scope.get("endpoint"), _STREAMS, False):
                return await receive()
            if seen == 0 and _declared(scope) > self._max_bytes:
                raise self._refusal()
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._max_bytes:
                raise self._refusal()
            return message

        return capped

    def _refusal(self) -> HTTPException:
        # Without the close, the server would go on reading the rest of the body.
        return HTTPException(
            413, f"The body is larger than {self._max_bytes} bytes.", {"Connection": "close"}
        )


def _declared(scope: Scope) -> int:
    length = Headers(scope=scope).get("content-length", "0")
    return int(length) if length.isdecimal() else 0
