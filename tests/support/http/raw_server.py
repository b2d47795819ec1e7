"""Servers on loopback that say just what a test likes, byte by byte."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from pipeline.adapters.http.pool import PinnedTransport

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class Server:
    port: int
    connections: int = 0


@asynccontextmanager
async def serving(talk: Talk, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """`talk` has each connection to itself."""
    talks: set[asyncio.Task[None]] = set()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            return  # the client hung up
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        info.connections += 1
        talks.add(asyncio.ensure_future(hold(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    info = Server(server.sockets[0].getsockname()[1])
    try:
        yield info
    finally:
        server.close()
        for _ in range(5):
            # A connection may be accepted, and not yet known to `accept`.
            await asyncio.sleep(0)
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)


def saying(*answers: bytes, then_close: bool = False) -> Talk:
    """Answers the requests of each connection in turn; the last answer repeats."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = list(answers)
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(left.pop(0) if len(left) > 1 else left[0])
            await writer.drain()
            if then_close:
                return

    return talk


async def ask(
    transport: PinnedTransport,
    server: Server,
    method: str = "GET",
    *,
    content: bytes | AsyncIterator[bytes] | None = None,
    scheme: str = "http",
    host: str = "server.example",
    pinned: tuple[str, ...] = ("127.0.0.1",),
) -> tuple[int, bytes]:
    """Status and body of `/path?q=1`, asked of `server` under the name `host`."""
    request = httpx.Request(
        method,
        f"{scheme}://{host}:{server.port}/path?q=1",
        content=content,
        extensions={"pinned": pinned},
    )
    response = await transport.handle_async_request(request)
    try:
        return response.status_code, await response.aread()
    finally:
        await response.aclose()
