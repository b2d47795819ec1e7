"""One HTTP/1.1 connection: writes requests, parses responses, one exchange at a time.

httpx's own transport spends about a millisecond of CPU per request, several times what a registry
needs to answer it; this one, on asyncio's protocol and llhttp, spends a tenth of that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Sequence
from typing import cast

import httptools
import httpx

HEAD_MAX_BYTES = 64 * 1024
BUFFER_BYTES = 256 * 1024
"""Body bytes that may wait for the reader before the peer is held back."""

_BODILESS = frozenset({204, 304})


class Unanswered(httpx.RemoteProtocolError):
    """The peer closed without a single byte of answer, as it may do with an idle connection."""


class Wire(asyncio.Protocol):
    """Raises httpx.NetworkError and httpx.RemoteProtocolError only.

    After a failed or cancelled exchange the connection must be closed, not used again.
    """

    _expects_body: bool
    _status: int
    _reason: bytes
    _headers: list[tuple[bytes, bytes]]
    _pieces: list[bytes]
    _buffered: int
    _received: int
    _has_head: bool
    _is_complete: bool
    _ends_with_connection: bool

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._parser: httptools.HttpResponseParser | None = None
        self._waiters: set[asyncio.Future[None]] = set()
        self._failure: httpx.TransportError | None = None
        self._is_held_back = False
        self._may_write = True
        self._is_reusable = True
        self.idle_since = 0.0
        self._begin(expects_body=True)

    @property
    def is_reusable(self) -> bool:
        """The last response is complete and the peer keeps the connection open."""
        return self._is_complete and self._is_reusable and not self.is_closed

    @property
    def is_closed(self) -> bool:
        return self._failure is not None or self._transport.is_closing()

    async def exchange(
        self, head: bytes, content: AsyncIterable[bytes] | None, *, expects_body: bool
    ) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Send a request and wait for the head of its response: status and headers."""
        self.begin(head, expects_body=expects_body)
        if content is not None:
            await self._send(content)
        return await self.answer()

    def begin(self, head: bytes, *, expects_body: bool) -> None:
        """The first part of `exchange`, for a body that comes bit by bit through `send`."""
        self._begin(expects_body=expects_body)
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(head)

    async def send(self, pieces: Sequence[bytes | memoryview]) -> bool:
        """Returns once the peer took nearly all; False when it answered before the end."""
        self._transport.writelines(pieces)
        while not self._may_write and not self._has_head:
            await self._progress()
        if self._has_head:
            self._is_reusable = False
        return not self._has_head

    async def pour(self, content: AsyncIterable[bytes]) -> None:
        """As the sending of `exchange`, beside `answer` and `read`: a peer may answer while it
        reads. Ends early once the answer is complete."""
        async for piece in content:
            self._transport.write(piece)
            while not self._may_write and not self._is_complete:
                await self._progress()
            if self._is_complete:
                self._is_reusable = False
                return

    async def answer(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        """The head of the response to what was begun."""
        while not self._has_head:
            await self._progress()
        return self._status, self._headers

    @property
    def reason(self) -> bytes:
        """What the peer wrote behind the status; empty when it wrote nothing."""
        return self._reason

    async def read(self) -> bytes:
        """The next piece of the body; empty at its end."""
        while not self._pieces and not self._is_complete:
            await self._progress()
        piece = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._buffered = 0
        if self._is_held_back:
            self._is_held_back = False
            self._transport.resume_reading()
        return piece

    def close(self) -> None:
        """Idempotent. Drops what was not sent."""
        self._transport.abort()

    def _begin(self, *, expects_body: bool) -> None:
        self._expects_body = expects_body
        self._status = 0
        self._reason = b""
        self._headers = []
        self._pieces = []
        self._buffered = 0
        self._received = 0
        self._has_head = False
        self._is_complete = False
        self._ends_with_connection = False

    async def _send(self, content: AsyncIterable[bytes]) -> None:
        async for piece in content:
            if not piece:
                continue
            self._transport.write(piece)
            while not self._may_write and not self._has_head:
                await self._progress()
            if self._has_head:
                # Answered before all was sent: a refusal. What is half sent cannot be continued.
                self._is_reusable = False
                return

    async def _progress(self) -> None:
        if self._failure is not None:
            raise self._failure
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _fail(self, failure: httpx.TransportError) -> None:
        if self._failure is None:
            self._failure = failure
        self._wake()

    # --- called by the event loop -------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._parser is None or self._is_complete:
            # Nobody asked for it; a response to the next request it must not become.
            self._is_reusable = False
            self.close()
            return
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._break(f"The answer is not HTTP/1.1: {error}")
            return
        if not self._has_head and self._received > HEAD_MAX_BYTES:
            self._break(f"The head of the answer exceeds {HEAD_MAX_BYTES} bytes.")

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        if self._has_head and self._ends_with_connection and error is None:
            self._is_complete = True
        if self._received == 0:
            self._fail(Unanswered("The connection was closed without an answer."))
        elif error is not None:
            failure = httpx.ReadError("The connection broke.")
            failure.__cause__ = error
            self._fail(failure)
        else:
            self._fail(httpx.RemoteProtocolError("The connection was closed in mid-answer."))

    def pause_writing(self) -> None:
        self._may_write = False

    def resume_writing(self) -> None:
        self._may_write = True
        self._wake()

    def _break(self, why: str) -> None:
        self._fail(httpx.RemoteProtocolError(why))
        self.close()

    # --- called by the parser -----------------------------------------------------------------

    def on_status(self, text: bytes) -> None:
        if not self._has_head:
            self._reason += text

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._has_head:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._has_head:
            self._is_reusable = False
            return
        assert self._parser is not None
        self._status = self._parser.get_status_code()
        if self._status < 200:
            self._headers.clear()
            self._reason = b""
            return
        self._has_head = True
        self._read_framing()
        if not self._expects_body or self._status in _BODILESS:
            self._is_complete = True
        self._wake()

    def on_body(self, data: bytes) -> None:
        if self._is_complete:
            self._is_reusable = False
            return
        self._pieces.append(data)
        self._buffered += len(data)
        if self._buffered > BUFFER_BYTES and not self._is_held_back:
            self._is_held_back = True
            self._transport.pause_reading()
        self._wake()

    def on_message_complete(self) -> None:
        if self._has_head:
            self._is_complete = True
            self._wake()

    def _read_framing(self) -> None:
        assert self._parser is not None
        closes, is_framed = self._parser.get_http_version() != "1.1", False
        for name, value in self._headers:
            match name.lower():
                case b"connection":
                    closes = closes or b"close" in value.lower()
                case b"content-length" | b"transfer-encoding":
                    is_framed = True
        self._is_reusable = not closes
        self._ends_with_connection = not is_framed
