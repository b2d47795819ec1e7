"""Answers without a known end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from api.methods import HEAD_OF_GET
from pipeline import tasks

EVENT_STREAM = "text/event-stream"
HEADERS = {
    "Cache-Control": "no-store",
    # nginx would hold small pieces back.
    "X-Accel-Buffering": "no",
    # Logs are what strangers wrote: never to be taken for a page.
    "X-Content-Type-Options": "nosniff",
}


class BrokenOff(Exception):
    """Ends an answer without its proper end, so that the caller can tell."""


class Stream(Response):
    """Sends what `chunks` yields until it ends or the caller hangs up.

    Then `chunks` and `held`, what it reads from, are closed, even if it never began.
    """

    def __init__(
        self,
        chunks: AsyncGenerator[bytes],
        media_type: str | None,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        held: AsyncExitStack | None = None,
    ) -> None:
        self._chunks = chunks
        self._held = held or AsyncExitStack()
        self.status_code = status
        self.media_type = media_type
        self.background = None
        self.init_headers(HEADERS | dict(headers or {}))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start: Message = {"type": "http.response.start", "status": self.status_code}
        start["headers"] = self.raw_headers
        async with self._held, aclosing(self._chunks) as chunks:
            await send(start)
            if not scope.get(HEAD_OF_GET):
                try:
                    await self._send_until_gone(chunks, receive, send)
                except BrokenOff:
                    return  # the server closes the connection
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_until_gone(
        self, chunks: AsyncGenerator[bytes], receive: Receive, send: Send
    ) -> None:
        sending = asyncio.create_task(_send_all(chunks, send))
        gone = asyncio.create_task(self.until_gone(receive))
        try:
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await tasks.end(sending, gone)
        if not sending.cancelled():
            sending.result()

    async def until_gone(self, receive: Receive) -> None:
        """Returns once the caller has hung up."""
        while (await receive())["type"] != "http.disconnect":
            pass


async def _send_all(chunks: AsyncGenerator[bytes], send: Send) -> None:
    async for chunk in chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
