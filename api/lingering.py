"""Answers that arrive although their request was not read to its end."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LINGER_S = 5.0
LINGER_BYTES = 256 * 1024 * 1024


class Linger:
    """Reads on for a while after an early answer, before the connection is closed.

    To close a connection on a sender who is still sending makes his system throw away the answer
    together with the connection: he would hear of a broken pipe instead of the reason.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _has_body(scope):
            await self._app(scope, receive, send)
            return
        is_read = False

        async def watched() -> Message:
            nonlocal is_read
            message = await receive()
            is_read = not message.get("more_body", False)
            return message

        async def lingering(message: Message) -> None:
            if is_read or message.get("more_body"):
                await send(message)
                return
            if message["type"] == "http.response.start":
                # What is left of the body is not read to its end, however long it is.
                headers = message.get("headers", [])
                kept = [(name, value) for name, value in headers if name != b"connection"]
                await send({**message, "headers": [*kept, (b"connection", b"close")]})
                return
            await send({**message, "more_body": True})
            await _read_on(receive)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        await self._app(scope, watched, lingering)


def _has_body(scope: Scope) -> bool:
    headers = dict(scope["headers"])
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"


async def _read_on(receive: Receive) -> None:
    seen = 0
    try:
        async with asyncio.timeout(LINGER_S):
            while seen < LINGER_BYTES:
                message = await receive()
                if not message.get("more_body", False):
                    return
                seen += len(message.get("body", b""))
    except TimeoutError:
        return
