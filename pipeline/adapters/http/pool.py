"""An httpx transport that connects to given addresses only and keeps connections open.

It never resolves a name: each request brings the checked addresses of its host in the extension
`pinned`. Host header, SNI and certificate are those of the name in the URL.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, NamedTuple

import httpx

from pipeline.adapters.http.connection import (
    Headers,
    HttpConnection,
    Unanswered,
    request_head,
    tls_context,
)

ADDRESSES_MAX: Final = 3
"""Addresses of one name that are tried."""

_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
_PORTS = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """Connections are shared by origin, not by address: a certificate was checked for a name."""

    scheme: str
    host: str
    port: int


@dataclass(slots=True, eq=False)
class _OriginPool:
    """The connections to one origin. A slow origin fills its own pool only."""

    origin: Origin
    slots: asyncio.Semaphore
    idle: list[HttpConnection] = field(default_factory=list)
    users: int = 0


class PinnedTransport(httpx.AsyncBaseTransport):
    """Raises httpx.TransportError only. Deadlines are the caller's, except the one to connect."""

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext | None = None,
        connect_s: float = 5,
        per_origin: int = 32,
        idle_s: float = 15,
        idle_max: int = 64,
    ) -> None:
        self._given_context = ssl_context
        self._connect_s = connect_s
        self._per_origin = per_origin
        self._idle_s = idle_s
        self._idle_max = idle_max
        self._idle_count = 0
        self._pools: dict[Origin, _OriginPool] = {}
        self._sweeper: asyncio.TimerHandle | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        pool = self._enter(origin_of(request.url))
        try:
            await pool.slots.acquire()
            try:
                connection, status, headers = await self._exchange(pool, request)
            except BaseException:
                pool.slots.release()
                raise
        except BaseException:
            self._leave(pool)
            raise
        said = {"reason_phrase": connection.reason} if connection.reason else {}
        return httpx.Response(
            status, headers=headers, stream=_Body(self, pool, connection), extensions=said
        )

    async def aclose(self) -> None:
        """Closes every idle connection; those in use close with their response."""
        self._idle_max = 0
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._drop_idle(since=float("inf"))

    def release(self, pool: _OriginPool, connection: HttpConnection) -> None:
        """End of a response: keep its connection for the next request, or close it."""
        if connection.is_reusable and self._idle_count < self._idle_max:
            connection.idle_since = asyncio.get_running_loop().time()
            pool.idle.append(connection)
            self._idle_count += 1
            self._expect_sweep()
        else:
            connection.close()
        pool.slots.release()
        self._leave(pool)

    async def _exchange(
        self, pool: _OriginPool, request: httpx.Request
    ) -> tuple[HttpConnection, int, Headers]:
        head, content = serialize(request)
        while True:
            connection = self._reuse(pool)
            is_fresh = connection is None
            if connection is None:
                connection = await self._connect(pool.origin, request)
            try:
                answer = await connection.exchange(
                    head, content, expects_body=request.method != "HEAD"
                )
            except Unanswered:
                connection.close()
                # The peer closed the idle connection just when we used it.
                if is_fresh or request.method not in _REPEATABLE or content is not None:
                    raise
            except BaseException:
                connection.close()
                raise
            else:
                return connection, *answer

    async def _connect(self, origin: Origin, request: httpx.Request) -> HttpConnection:
        addresses: tuple[str, ...] = request.extensions.get("pinned", ())
        if not addresses:
            raise httpx.LocalProtocolError("The request brings no checked address.")
        tls = self._tls if origin.scheme == "https" else None
        return await connect(addresses, origin, tls=tls, connect_s=self._connect_s)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        # Reading the certificate store takes long enough to wait for the first need of it.
        return self._given_context or tls_context()

    def _enter(self, origin: Origin) -> _OriginPool:
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = _OriginPool(origin, asyncio.Semaphore(self._per_origin))
        pool.users += 1
        return pool

    def _leave(self, pool: _OriginPool) -> None:
        pool.users -= 1
        if not pool.users and not pool.idle:
            self._pools.pop(pool.origin, None)

    def _reuse(self, pool: _OriginPool) -> HttpConnection | None:
        while pool.idle:
            connection = pool.idle.pop()
            self._idle_count -= 1
            if not connection.is_closed:
                return connection
        return None

    def _expect_sweep(self) -> None:
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(self._idle_s, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        self._drop_idle(since=asyncio.get_running_loop().time() - self._idle_s)
        if self._idle_count:
            self._expect_sweep()

    def _drop_idle(self, *, since: float) -> None:
        for pool in list(self._pools.values()):
            old = [
                connection
                for connection in pool.idle
                if connection.idle_since <= since or connection.is_closed
            ]
            for connection in old:
                connection.close()
                pool.idle.remove(connection)
            self._idle_count -= len(old)
            if not pool.users and not pool.idle:
                del self._pools[pool.origin]


class _Body(httpx.AsyncByteStream):
    def __init__(
        self, transport: PinnedTransport, pool: _OriginPool, connection: HttpConnection
    ) -> None:
        self._transport = transport
        self._pool = pool
        self._connection = connection
        self._is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await self._connection.read():
            yield piece

    async def aclose(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._transport.release(self._pool, self._connection)


def origin_of(url: httpx.URL) -> Origin:
    scheme = url.scheme
    if scheme not in _PORTS:
        raise httpx.UnsupportedProtocol(f"{scheme}: is not spoken here, only http and https.")
    return Origin(scheme, url.raw_host.decode("ascii"), url.port or _PORTS[scheme])


async def connect(
    addresses: Sequence[str], origin: Origin, *, tls: ssl.SSLContext | None, connect_s: float
) -> HttpConnection:
    """To the first of the addresses that answers; at least one is given.

    Raises what `HttpConnection.open` does.
    """
    failure: httpx.TransportError
    for address in addresses[:ADDRESSES_MAX]:
        try:
            return await HttpConnection.open(
                address, origin.port, tls=tls, name=origin.host, connect_s=connect_s
            )
        except httpx.TransportError as error:
            failure = error
    raise failure


def serialize(request: httpx.Request) -> tuple[bytes, AsyncIterable[bytes] | None]:
    """The head in bytes, and the body when there is one. See `request_head`."""
    head = request_head(request.method, request.url.raw_path, request.headers.raw)
    is_chunked = "transfer-encoding" in request.headers
    if not is_chunked and request.headers.get("content-length", "0") == "0":
        return head, None
    assert isinstance(request.stream, httpx.AsyncByteStream)
    return head, chunked(request.stream) if is_chunked else request.stream


async def chunked(content: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    async for piece in content:
        if piece:
            yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"
