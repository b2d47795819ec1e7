"""An OCI registry whose last layer stops halfway until the test lets it go on."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.archives.images import MEDIA_TYPES, TinyImage

_TLS = b"\x16"
USER, PASSWORD = "me", "hunter2"


class GatedRegistry:
    """Serves one image at `reference`; half of its last layer, then nothing until `gate` is set.

    `silent`: it accepts connections and answers nothing at all. `login`: it asks for USER and
    PASSWORD.
    """

    def __init__(self, image: TinyImage, *, login: bool = False, silent: bool = False) -> None:
        self.gate = asyncio.Event()
        self.reached = asyncio.Event()
        """Half of the layer was sent, or, when `silent`, somebody asked."""
        self.sent = asyncio.Event()
        """The other half was sent, too, or an engine that had hung up refused it."""
        self.stalls = True
        """Unset, the next request gets the whole layer; what waits already goes on waiting."""
        self.reference = ""
        self._image = image
        self._login = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        self._needs_login = login
        self._silent = silent
        self._writers: list[asyncio.StreamWriter] = []

    @classmethod
    @asynccontextmanager
    async def open(
        cls, image: TinyImage, *, login: bool = False, silent: bool = False
    ) -> AsyncIterator[GatedRegistry]:
        registry = cls(image, login=login, silent=silent)
        server = await asyncio.start_server(registry._serve, "127.0.0.1", 0)
        registry.reference = f"127.0.0.1:{server.sockets[0].getsockname()[1]}/team/model:1"
        try:
            yield registry
        finally:
            registry.gate.set()
            server.close()
            for writer in registry._writers:
                writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        try:
            if await reader.readexactly(1) == _TLS:
                return  # an engine tries https first and takes a hang-up for "plain HTTP"
            head = "G" + (await reader.readuntil(b"\r\n\r\n")).decode()
            while head:
                await self._answer(head, writer)
                await writer.drain()
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # the engine closed its connection
        finally:
            writer.close()

    async def _answer(self, head: str, writer: asyncio.StreamWriter) -> None:
        method, path, _ = head.split(" ", 2)
        if self._silent:
            await self._wait()
        elif self._needs_login and f"Authorization: {self._login}" not in head:
            _send(writer, method, 401, b"{}", 'WWW-Authenticate: Basic realm="test"\r\n')
        elif path == "/v2/":
            _send(writer, method, 200, b"{}")
        elif "/manifests/" in path:
            kind = f"Content-Type: {MEDIA_TYPES['oci']['manifest']}\r\n"
            kind += f"Docker-Content-Digest: {self._image.digest}\r\n"
            _send(writer, method, 200, self._image.manifest(), kind)
        else:
            await self._answer_blob(method, path.rpartition("/")[2], writer)

    async def _answer_blob(self, method: str, digest: str, writer: asyncio.StreamWriter) -> None:
        blob = self._image.blobs[digest]
        is_last = digest == self._image.layers[-1].digest
        if method == "HEAD" or not is_last or not self.stalls:
            _send(writer, method, 200, blob)
            return
        half = len(blob) // 2
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(blob)}\r\n\r\n".encode())
        writer.write(blob[:half])
        await writer.drain()
        await self._wait()
        try:
            writer.write(blob[half:])
            await writer.drain()
        finally:
            self.sent.set()

    async def _wait(self) -> None:
        self.reached.set()
        await self.gate.wait()


def _send(
    writer: asyncio.StreamWriter, method: str, status: int, body: bytes, headers: str = ""
) -> None:
    head = f"HTTP/1.1 {status} X\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + (b"" if method == "HEAD" else body))
