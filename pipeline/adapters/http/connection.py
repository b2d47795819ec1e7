"""One HTTP/1.1 connection: writes requests, parses responses, one exchange at a time.

All that speaks HTTP from here builds on it: the pool of guarded requests, calls whose bodies flow
both ways, and pushes into the registry. docs/hand-written.md says why it is not a library's.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterable, Iterable, Sequence
from typing import Self, cast

import httptools
import httpx

HEAD_MAX_BYTES = 64 * 1024
BUFFER_BYTES = 256 * 1024
"""Body bytes that may wait for the reader before the peer is held back."""

Headers = list[tuple[bytes, bytes]]

_BODILESS = frozenset({204, 304})
_METHOD = re.compile(r"[A-Z]{1,20}")
_LINE_BREAKERS = re.compile(rb"[\r\n\0]")


class Unanswered(httpx.RemoteProtocolError):
    """The peer closed without a single byte of answer, as it may do with an idle connection."""


class HttpConnection(asyncio.Protocol):
    """Raises httpx.NetworkError, httpx.RemoteProtocolError, and what `fail` was given.

    After a failed or cancelled exchange the connection must be closed, not used again.
    """

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._parser: httptools.HttpResponseParser | None = None
        self._waiters: set[asyncio.Future[None]] = set()
        self._failure: Exception | None = None
        self._is_held_back = False
        self._may_write = True
        self._is_reusable = True
        self.idle_since = 0.0
        self._expect(body=True)

    @classmethod
    async def open(
        cls, address: str, port: int, *, tls: ssl.SSLContext | None, name: str, connect_s: float
    ) -> Self:
        """Connect; under TLS to whoever proves to be `name`.

        Raises httpx.ConnectTimeout, and httpx.ConnectError whose cause says why.
        """
        try:
            async with asyncio.timeout(connect_s):
                _, connection = await asyncio.get_running_loop().create_connection(
                    cls, address, port, ssl=tls, server_hostname=name if tls else None
                )
        except TimeoutError as error:
            raise httpx.ConnectTimeout(f"No connection within {connect_s:g} s.") from error
        except OSError as error:
            raise httpx.ConnectError(str(error)) from error
        return connection

    @property
    def peer(self) -> str:
        """The address at the other end."""
        return str(self._transport.get_extra_info("peername")[0])

    def buffer(self, most: int) -> None:
        """Let `most` bytes wait here for the peer to take them."""
        self._transport.set_write_buffer_limits(high=most)

    @property
    def is_reusable(self) -> bool:
        """The last response is complete and the peer keeps the connection open."""
        return self._is_complete and self._is_reusable and not self.is_closed

    @property
    def is_closed(self) -> bool:
        return self._failure is not None or self._transport.is_closing()

    async def exchange(
        self, head: bytes, content: AsyncIterable[bytes] | None, *, expects_body: bool
    ) -> tuple[int, Headers]:
        """Send a request and wait for the head of its response: status and headers."""
        self.begin(head, expects_body=expects_body)
        if content is not None:
            await self.send_all(content)
        return await self.answer()

    def begin(self, head: bytes, *, expects_body: bool, may_upgrade: bool = False) -> None:
        """The first part of `exchange`, for a body that comes bit by bit through `send`.

        With `may_upgrade` the peer may answer 101 (RFC 9110, 7.8): what follows is no HTTP, and
        is read and sent as a body that ends with the connection.
        """
        self._expect(body=expects_body)
        self._may_upgrade = may_upgrade
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(head)

    async def send_all(self, content: AsyncIterable[bytes], *, is_duplex: bool = False) -> None:
        """Send `content` until the peer has answered. See `send`."""
        async for piece in content:
            if piece and not await self.send([piece], is_duplex=is_duplex):
                return

    async def send(self, pieces: Sequence[bytes | memoryview], *, is_duplex: bool = False) -> bool:
        """Returns once the peer took nearly all; False when it has answered before the end.

        What is half sent then cannot be continued. The head of an answer is a refusal, unless
        `is_duplex`: such a peer reads on until its answer is complete.
        """
        self._transport.writelines(pieces)
        while not self._may_write and not self._is_answered(is_duplex):
            await self._progress()
        if self._is_answered(is_duplex):
            self._is_reusable = False
            return False
        return True

    async def answer(self) -> tuple[int, Headers]:
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

    def fail(self, why: Exception) -> None:
        """Close; whoever waits for the answer gets `why`, unless something failed before."""
        self._fail(why)
        self.close()

    def close(self) -> None:
        """Idempotent. Drops what was not sent."""
        self._transport.abort()

    def _expect(self, *, body: bool) -> None:
        self._expects_body = body
        self._status = 0
        self._reason = b""
        self._headers: Headers = []
        self._pieces: list[bytes] = []
        self._buffered = 0
        self._received = 0
        self._has_head = False
        self._is_complete: bool = False
        self._ends_with_connection = False
        self._may_upgrade = self._is_tunnel = False

    def _is_answered(self, is_duplex: bool) -> bool:
        return self._is_complete if is_duplex else self._has_head

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

    def _fail(self, failure: Exception) -> None:
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
        if self._is_tunnel:
            self.on_body(data)
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._switch(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError as error:
            self.fail(httpx.RemoteProtocolError(f"The answer is not HTTP/1.1: {error}"))
            return
        if not self._has_head and self._received > HEAD_MAX_BYTES:
            why = f"The head of the answer exceeds {HEAD_MAX_BYTES} bytes."
            self.fail(httpx.RemoteProtocolError(why))

    def _switch(self, rest: bytes) -> None:
        if not self._is_tunnel:
            self.fail(httpx.RemoteProtocolError("The answer is another protocol."))
        elif rest:
            self.on_body(rest)

    def connection_lost(self, error: Exception | None) -> None:
        is_orderly = error is None and self._failure is None
        if is_orderly and self._has_head and self._ends_with_connection:
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
        self._is_tunnel = self._may_upgrade and self._parser.should_upgrade()
        if self._status < 200 and not self._is_tunnel:
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
        if self._has_head and not self._is_tunnel:
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


def request_head(method: str, target: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Request line and headers; `target` is path and query.

    Raises httpx.LocalProtocolError when a value would end its line: it could add headers.
    """
    if not _METHOD.fullmatch(method):
        raise httpx.LocalProtocolError("The method is not one of HTTP.")
    parts = [method.encode(), b" ", target, b" HTTP/1.1"]
    for name, value in headers:
        if _LINE_BREAKERS.search(name) or _LINE_BREAKERS.search(value):
            raise httpx.LocalProtocolError("A header holds a line break.")
        parts += (b"\r\n", name, b": ", value)
    parts.append(b"\r\n\r\n")
    return b"".join(parts)


def tls_context() -> ssl.SSLContext:
    """For servers whose certificates this machine trusts. Reading those takes a while."""
    context = httpx.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
