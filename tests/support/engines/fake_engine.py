"""A server that speaks enough of the Engine API to misbehave exactly as a test wants."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass
class Exchange:
    """One request, and the connection to answer it on."""

    method: str
    path: str
    """Without the version prefix."""
    version: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    writer: asyncio.StreamWriter
    closed: asyncio.Event
    """Set when the client hangs up."""

    def json(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send(f"Content-Type: application/json\r\nContent-Length: {len(body)}", status, body)

    def begin(self, status: int = 200) -> None:
        """The headers of an answer whose body comes in chunks."""
        self.send("Transfer-Encoding: chunked", status, b"")

    def chunk(self, content: bytes) -> None:
        self.writer.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")

    def end(self) -> None:
        self.writer.write(b"0\r\n\r\n")

    def send(self, headers: str, status: int, body: bytes) -> None:
        self.writer.write(f"HTTP/1.1 {status} X\r\n{headers}\r\n\r\n".encode() + body)


Handler = Callable[[Exchange], Awaitable[None]]


@dataclass
class FakeEngine:
    """`on[method, path]` answers a request; any other is about an unknown container."""

    address: str
    on: dict[tuple[str, str], Handler] = field(default_factory=dict)
    api_version: str = "1.41"
    min_api_version: str = "1.12"
    seen: list[Exchange] = field(default_factory=list)
    connections: int = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, *, tcp: bool = False) -> AsyncIterator[FakeEngine]:
        with tempfile.TemporaryDirectory() as folder:
            engine = cls(f"unix://{folder}/engine.sock")
            if tcp:
                server = await asyncio.start_server(engine._serve, "127.0.0.1", 0)
                engine.address = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            else:
                server = await asyncio.start_unix_server(engine._serve, f"{folder}/engine.sock")
            try:
                yield engine
            finally:
                server.close()
                for writer in engine._writers:
                    writer.close()

    def __post_init__(self) -> None:
        self._writers: list[asyncio.StreamWriter] = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        try:
            while (exchange := await _next_exchange(reader, writer)) is not None:
                self.seen.append(exchange)
                await self._answer(exchange, reader)
                await writer.drain()
        except ConnectionError:
            return  # the client went away, which is what some tests are about
        finally:
            writer.close()

    async def _answer(self, exchange: Exchange, reader: asyncio.StreamReader) -> None:
        handler = self.on.get((exchange.method, exchange.path), self._usual)
        # A client sends nothing before it has its answer: what ends this read is a hang-up.
        watch = asyncio.ensure_future(reader.read(1))
        watch.add_done_callback(lambda _: exchange.closed.set())
        try:
            await handler(exchange)
        finally:
            watch.cancel()
            await asyncio.wait([watch])

    async def _usual(self, exchange: Exchange) -> None:
        if exchange.path == "/version":
            versions = {"ApiVersion": self.api_version, "MinAPIVersion": self.min_api_version}
            exchange.json(200, versions)
        else:
            exchange.json(404, {"message": f"No such container: {exchange.path}"})


async def _next_exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> Exchange | None:
    """None when the client has closed its connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode().strip().split("\r\n")
    method, target, _ = first.split()
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    url = urlsplit(target)
    version = url.path.split("/")[1]
    prefixed = version.startswith("v1.")
    return Exchange(
        method=method,
        path=url.path.removeprefix(f"/{version}") if prefixed else url.path,
        version=version.removeprefix("v") if prefixed else "",
        query=dict(parse_qsl(url.query)),
        headers=headers,
        body=await _body(reader, headers),
        writer=writer,
        closed=asyncio.Event(),
    )


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(headers.get("content-length", 0)))
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return body
