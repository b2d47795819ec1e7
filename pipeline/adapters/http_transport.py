"""An httpx transport that connects to given addresses only and keeps connections open.

It never resolves a name: each request brings the checked addresses of its host in the extension
`pinned`. Host header, SNI and certificate are those of the name in the URL.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, NamedTuple

import httpx

from pipeline.adapters.http_wire import Unanswered, Wire

ADDRESSES_MAX: Final = 3
"""Addresses of one name that are tried."""

_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
_PORTS = {"http": 80, "https": 443}
_METHOD = re.compile(r"[A-Z]{1,20}")
_LINE_BREAKERS = re.compile(rb"[\r\n\0]")


class Origin(NamedTuple):
    """Connections are shared by origin, not by address: a certificate was checked for a name."""

    scheme: str
    host: str
    port: int


@dataclass(slots=True, eq=False)
class _Lane:
    """The connections to one origin. A slow origin fills its own lane only."""

    origin: Origin
    slots: asyncio.Semaphore
    idle: list[Wire] = field(default_factory=list)
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
        self._lanes: dict[Origin, _Lane] = {}
        self._sweeper: asyncio.TimerHandle | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        lane = self._enter(_origin(request.url))
        try:
            await lane.slots.acquire()
            try:
                wire, status, headers = await self._exchange(lane, request)
            except BaseException:
                lane.slots.release()
                raise
        except BaseException:
            self._leave(lane)
            raise
        said = {"reason_phrase": wire.reason} if wire.reason else {}
        return httpx.Response(
            status, headers=headers, stream=_Body(self, lane, wire), extensions=said
        )

    async def aclose(self) -> None:
        """Closes every idle connection; those in use close with their response."""
        self._idle_max = 0
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._drop_idle(since=float("inf"))

    def give_back(self, lane: _Lane, wire: Wire) -> None:
        """End of a response: keep its connection for the next request, or close it."""
        if wire.is_reusable and self._idle_count < self._idle_max:
            wire.idle_since = asyncio.get_running_loop().time()
            lane.idle.append(wire)
            self._idle_count += 1
            self._expect_sweep()
        else:
            wire.close()
        lane.slots.release()
        self._leave(lane)

    async def _exchange(
        self, lane: _Lane, request: httpx.Request
    ) -> tuple[Wire, int, list[tuple[bytes, bytes]]]:
        head, content = serialize(request)
        while True:
            wire = self._reuse(lane)
            is_fresh = wire is None
            if wire is None:
                wire = await self._connect(lane.origin, request)
            try:
                answer = await wire.exchange(head, content, expects_body=request.method != "HEAD")
            except Unanswered:
                wire.close()
                # The peer closed the idle connection just when we used it.
                if is_fresh or request.method not in _REPEATABLE or content is not None:
                    raise
            except BaseException:
                wire.close()
                raise
            else:
                return wire, *answer

    async def _connect(self, origin: Origin, request: httpx.Request) -> Wire:
        addresses: tuple[str, ...] = request.extensions.get("pinned", ())
        if not addresses:
            raise httpx.LocalProtocolError("The request brings no checked address.")
        failure: httpx.TransportError
        for address in addresses[:ADDRESSES_MAX]:
            try:
                return await self._dial(origin, address)
            except httpx.TransportError as error:
                failure = error
        raise failure

    async def _dial(self, origin: Origin, address: str) -> Wire:
        is_tls = origin.scheme == "https"
        try:
            async with asyncio.timeout(self._connect_s):
                _, wire = await asyncio.get_running_loop().create_connection(
                    Wire,
                    address,
                    origin.port,
                    ssl=self._ssl_context if is_tls else None,
                    server_hostname=origin.host if is_tls else None,
                )
        except TimeoutError as error:
            raise httpx.ConnectTimeout(f"No connection within {self._connect_s:g} s.") from error
        except OSError as error:
            raise httpx.ConnectError(str(error)) from error
        return wire

    @cached_property
    def _ssl_context(self) -> ssl.SSLContext:
        # Reading the certificate store takes long enough to wait for the first need of it.
        context = self._given_context or httpx.create_ssl_context()
        context.set_alpn_protocols(["http/1.1"])
        return context

    def _enter(self, origin: Origin) -> _Lane:
        lane = self._lanes.get(origin)
        if lane is None:
            lane = self._lanes[origin] = _Lane(origin, asyncio.Semaphore(self._per_origin))
        lane.users += 1
        return lane

    def _leave(self, lane: _Lane) -> None:
        lane.users -= 1
        if not lane.users and not lane.idle:
            self._lanes.pop(lane.origin, None)

    def _reuse(self, lane: _Lane) -> Wire | None:
        while lane.idle:
            wire = lane.idle.pop()
            self._idle_count -= 1
            if not wire.is_closed:
                return wire
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
        for lane in list(self._lanes.values()):
            old = [wire for wire in lane.idle if wire.idle_since <= since or wire.is_closed]
            for wire in old:
                wire.close()
                lane.idle.remove(wire)
            self._idle_count -= len(old)
            if not lane.users and not lane.idle:
                del self._lanes[lane.origin]


class _Body(httpx.AsyncByteStream):
    def __init__(self, transport: PinnedTransport, lane: _Lane, wire: Wire) -> None:
        self._transport = transport
        self._lane = lane
        self._wire = wire
        self._is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await self._wire.read():
            yield piece

    async def aclose(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._transport.give_back(self._lane, self._wire)


def _origin(url: httpx.URL) -> Origin:
    scheme = url.scheme
    if scheme not in _PORTS:
        raise httpx.UnsupportedProtocol(f"{scheme}: is not spoken here, only http and https.")
    return Origin(scheme, url.raw_host.decode("ascii"), url.port or _PORTS[scheme])


def serialize(request: httpx.Request) -> tuple[bytes, AsyncIterable[bytes] | None]:
    """The head in bytes, and the body when there is one.

    Raises httpx.LocalProtocolError when a value would end its line: it could add headers.
    """
    if not _METHOD.fullmatch(request.method):
        raise httpx.LocalProtocolError("The method is not one of HTTP.")
    has_body = is_chunked = False
    parts = [request.method.encode(), b" ", request.url.raw_path, b" HTTP/1.1"]
    for name, value in request.headers.raw:
        match name.lower():
            case b"content-length":
                has_body = has_body or value != b"0"
            case b"transfer-encoding":
                has_body = is_chunked = True
        if _LINE_BREAKERS.search(name) or _LINE_BREAKERS.search(value):
            raise httpx.LocalProtocolError("A header holds a line break.")
        parts += (b"\r\n", name, b": ", value)
    parts.append(b"\r\n\r\n")
    if not has_body:
        return b"".join(parts), None
    assert isinstance(request.stream, httpx.AsyncByteStream)
    return b"".join(parts), _chunked(request.stream) if is_chunked else request.stream


async def _chunked(content: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    async for piece in content:
        if piece:
            yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"
