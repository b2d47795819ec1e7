"""A server of files on loopback, as helpful or as broken as a test wants."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.support.http.raw_server import Server, serving


@dataclass
class FileServer:
    """`cut` bytes of each answer are sent and then the connection closed; None sends all."""

    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    cut: int | None = None
    stalls: bool = False
    """It sends `cut` bytes and stays silent."""
    gate: asyncio.Event | None = None
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Range of each request."""
    port: int = 0

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split(" ")[1].partition("?")[0]
        wanted = re.search(r"(?i)^range: bytes=(\d+)-", head, re.M)
        self.asked.append((path, wanted and wanted[1]))
        if self.gate is not None:
            await self.gate.wait()
        writer.write(self._answer(path, int(wanted[1]) if wanted and self.ranges else None))
        await writer.drain()
        if self.stalls:
            await reader.read()

    def _answer(self, path: str, start: int | None) -> bytes:
        if path in self.redirects:
            return f"HTTP/1.1 302 Found\r\nLocation: {self.redirects[path]}\r\n\r\n".encode()
        if path not in self.files:
            return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
        whole = self.files[path]
        body = whole[start or 0 :]
        status = "200 OK" if start is None else "206 Partial Content"
        headers = [f"Content-Length: {len(body)}", 'ETag: "one"', "Connection: close"]
        if start is not None:
            headers.append(f"Content-Range: bytes {start}-{len(whole) - 1}/{len(whole)}")
        lines = "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""])
        return lines.encode() + body[: self.cut]


@asynccontextmanager
async def file_server() -> AsyncIterator[FileServer]:
    files = FileServer()
    server: Server
    async with serving(files.talk) as server:
        files.port = server.port
        yield files
