"""Reads an iterator ahead, so that its reader also notices silence and the end of the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from typing import Generic, Self, TypeVar

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from api.http.middleware import HEAD_OF_GET
from pipeline import concurrency
from pipeline.events import sse

T = TypeVar("T")

AHEAD = 256


class Pump(Generic[T]):
    """An async context manager; leaving it ends the reading."""

    def __init__(self, source: AsyncGenerator[T], stop: asyncio.Event) -> None:
        self.ended = False
        """True once `take` has returned the last items."""
        self.cut = False
        """True when it ended because `stop` was set, not because the source did."""
        self._source = source
        self._stop = stop
        self._items: list[T] = []
        self._moved = asyncio.Event()
        self._room = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._reading = asyncio.create_task(self._read())
        self._stopped = asyncio.create_task(self._stop.wait())
        for task in (self._reading, self._stopped):
            task.add_done_callback(lambda _: self._moved.set())
        return self

    async def __aexit__(self, *error: object) -> None:
        await concurrency.cancel_and_wait(self._reading, self._stopped)

    async def take(self, timeout_s: float) -> list[T]:
        """What has arrived; empty when nothing came in time. Raises what the source raises."""
        if not await concurrency.comes_within(self._moved, timeout_s):
            return []
        items, self._items = self._items, []
        self._moved.clear()
        self._room.set()
        if self._stopped.done():
            self.ended = self.cut = True
        elif self._reading.done() and not items:
            self.ended = True
            self._reading.result()
        elif self._reading.done():
            self._moved.set()
        return items

    async def _read(self) -> None:
        async with aclosing(self._source) as source:
            async for item in source:
                self._items.append(item)
                self._moved.set()
                if len(self._items) >= AHEAD:
                    self._room.clear()
                    await self._room.wait()


EVENT_STREAM = "text/event-stream"
HEADERS = {
    "Cache-Control": "no-store",
    # nginx would hold small pieces back.
    "X-Accel-Buffering": "no",
    # Logs are what strangers wrote: never to be taken for a page.
    "X-Content-Type-Options": "nosniff",
}


HEARTBEAT_S = 15.0


async def frames(
    pump: Pump[T], frame: Callable[[T], bytes], end: Callable[[], Awaitable[bytes]]
) -> AsyncGenerator[bytes]:
    """Server-Sent Events of what is read, with a comment in every silence; `end` is asked for the
    last one, unless it is the server that stops: then that is `bye`."""
    while not pump.ended:
        items = await pump.take(HEARTBEAT_S)
        if items or not pump.ended:
            yield b"".join(map(frame, items)) or b": still here\n\n"
    if pump.cut:
        yield sse.control_frame("bye", {"reason": "The server is stopping."})
    else:
        yield await end()


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
            await concurrency.cancel_and_wait(sending, gone)
        if not sending.cancelled():
            sending.result()

    async def until_gone(self, receive: Receive) -> None:
        """Returns once the caller has hung up."""
        while (await receive())["type"] != "http.disconnect":
            pass


async def _send_all(chunks: AsyncGenerator[bytes], send: Send) -> None:
    async for chunk in chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
