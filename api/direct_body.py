"""Bodies read straight from the connection, past the parser.

Of a body whose length is told there is nothing to parse, and an HTTP parser copies every byte of it
several times: that takes longer than digesting it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

VIEWS: Final = "modelyard.views"
"""Among a request's ASGI extensions: its `take` makes the body come as views, not bytes."""
WORTH_BYTES: Final = 256 * 1024
"""Less than this may as well be parsed."""
BUFFER_BYTES: Final = 1024 * 1024
WAITING_MAX: Final = 2
"""Full buffers that wait for the application; then the sender is held back."""


class DirectBody(asyncio.BufferedProtocol):
    """Has the connection of one request until the last byte of its body is here.

    Its pieces are views: they stay as they are, and the memory goes with the last of them.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        cycle: RequestResponseCycle,
        missing: int,
        give_back: Callable[[], asyncio.Protocol],
    ) -> None:
        self._transport = transport
        self._cycle = cycle
        self._missing = missing
        self._before = cast(asyncio.Protocol, transport.get_protocol())
        self._give_back = give_back
        self._ready: deque[memoryview] = deque()
        self._buffer = memoryview(bytearray(min(missing, BUFFER_BYTES)))
        self._taken = 0
        """Bytes of the buffer that the application has."""
        self._filled = 0
        self._is_lost = False
        self._news = asyncio.Event()
        if cycle.body:
            self._ready.append(memoryview(cycle.body))
            cycle.body = bytearray()

    @property
    def is_over(self) -> bool:
        """The application has all of it."""
        return not self._missing and not self._has_piece()

    def begin(self) -> None:
        self._cycle.message_event.clear()
        self._switch(self)

    async def receive(self) -> dict[str, Any]:
        """What the application gets, as ASGI's `receive`."""
        while not (self._has_piece() or self._is_lost or self._cycle.response_complete):
            self._news.clear()
            await self._news.wait()
        if self._cycle.response_complete or not self._has_piece():
            return {"type": "http.disconnect"}
        piece = self._piece()
        return {"type": "http.request", "body": piece, "more_body": not self.is_over}

    def _has_piece(self) -> bool:
        return bool(self._ready) or self._taken < self._filled

    def _piece(self) -> memoryview:
        if self._ready:
            piece = self._ready.popleft()
        else:
            piece = self._buffer[self._taken : self._filled]
            self._taken = self._filled
        if self._missing and len(self._ready) < WAITING_MAX:
            self._transport.resume_reading()
        return piece

    def _switch(self, protocol: asyncio.BaseProtocol) -> None:
        # A loop chooses how to read when reading begins.
        self._transport.pause_reading()
        self._transport.set_protocol(protocol)
        self._transport.resume_reading()

    # --- called by the event loop -------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer[self._filled :]

    def buffer_updated(self, count: int) -> None:
        self._filled += count
        self._missing -= count
        if self._filled == len(self._buffer):
            self._ready.append(self._buffer[self._taken :])
            self._buffer = memoryview(bytearray(min(self._missing, BUFFER_BYTES)))
            self._taken = self._filled = 0
        if not self._missing:
            self._cycle.more_body = False
            self._switch(self._give_back())
        elif len(self._ready) >= WAITING_MAX:
            self._transport.pause_reading()
        self._news.set()

    def eof_received(self) -> bool | None:
        return self._before.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        self._is_lost = True
        self._news.set()
        self._before.connection_lost(error)

    def pause_writing(self) -> None:
        self._before.pause_writing()

    def resume_writing(self) -> None:
        self._before.resume_writing()
