"""How much of a request body is read, and for how long it is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Endpoint = TypeVar("Endpoint", bound=Callable[..., object])
Heard = TypeVar("Heard")

_STREAMS = "_modelyard_streams_body"


def streams_body(endpoint: Endpoint) -> Endpoint:
    """Marks an endpoint that reads its body piece by piece and caps it itself."""
    setattr(endpoint, _STREAMS, True)
    return endpoint


async def heard(piece: Awaitable[Heard], silence_s: float) -> Heard:
    """The next piece of a body. HTTPException 408 when it does not come in time."""
    try:
        async with asyncio.timeout(silence_s):
            return await piece
    except TimeoutError:
        # Whatever follows on this connection belongs to a request that is over.
        why = f"Nothing of the body came for {silence_s:g} s: send the request again."
        raise HTTPException(408, why, {"Connection": "close"}) from None


class BodyCap:
    """Refuses bodies over `max_bytes` with 413, and those that stop coming with 408.

    A declared length is judged at the first read, so that a caller without a token hears 401
    first; a chunked body is cut off where it crosses the line. Endpoints marked with
    `streams_body` are left alone.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, silence_s: float) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._silence_s = silence_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = _Capped(scope, receive, send, self._max_bytes, self._silence_s)
        await self._app(scope, request.receive, request.send)


class _Capped:
    """One request and its answer, as the application sees them."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, max_bytes: int, silence_s: float
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._max_bytes = max_bytes
        self._silence_s = silence_s
        self._seen = 0
        self._is_awaited = True
        """Later on, only the end of the connection is waited for."""

    async def receive(self) -> Message:
        if getattr(self._scope.get("endpoint"), _STREAMS, False) or not self._is_awaited:
            return await self._receive()
        if self._seen == 0 and _declared(self._scope) > self._max_bytes:
            raise self._refusal()
        message = await heard(self._receive(), self._silence_s)
        self._seen += len(message.get("body", b""))
        if self._seen > self._max_bytes:
            raise self._refusal()
        self._is_awaited = message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        self._is_awaited = False
        await self._send(message)

    def _refusal(self) -> HTTPException:
        # Without the close, the server would go on reading the rest of the body.
        return HTTPException(
            413, f"The body is larger than {self._max_bytes} bytes.", {"Connection": "close"}
        )


def _declared(scope: Scope) -> int:
    length = Headers(scope=scope).get("content-length", "0")
    return int(length) if length.isdecimal() else 0
