"""Replicas without an engine: servers on loopback that say who they are."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

CHUNK = b"x" * 65536


@dataclass
class Upstream:
    """Counts what it is asked. `hold` lets calls of `/slow` wait."""

    name: str
    port: int = 0
    asked: list[str] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    hold: asyncio.Event = field(default_factory=asyncio.Event)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def close(self) -> None:
        """Hang up on everybody."""
        for writer in self.writers:
            writer.close()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.heads.append(head)
                method, path, _ = head.decode().split(" ", 2)
                self.asked.append(f"{method} {path}")
                await self._answer(path, head, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # the caller hung up
        finally:
            writer.close()

    async def _answer(
        self, path: str, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if b"upgrade: websocket" in head.lower():
            writer.write(b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
            writer.write(b"Sec-WebSocket-Accept: %s\r\n\r\n" % _accepted(head))
            while piece := await reader.read(1024):
                writer.write(piece)
                await writer.drain()
            return
        if path == "/slow":
            await self.hold.wait()
        if path == "/events":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")
            writer.write(b"Transfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n")
            await writer.drain()
            await self.hold.wait()
            writer.write(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")
        else:
            body = f"{self.name} {path}".encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()


def _accepted(head: bytes) -> bytes:
    """RFC 6455, section 4.2.2; HAProxy checks it."""
    (key,) = re.findall(rb"(?i)sec-websocket-key: (\S+)", head)
    digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False)
    return base64.b64encode(digest.digest())


@asynccontextmanager
async def upstream(name: str, port: int = 0) -> AsyncIterator[Upstream]:
    made = Upstream(name)
    talks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.writers.append(writer)
        talks.add(asyncio.ensure_future(made.talk(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", port)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
        # One that was cancelled before it began has closed nothing.
        made.close()
