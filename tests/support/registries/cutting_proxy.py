"""A way to a server on which connections break."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class CuttingProxy:
    """Hands bytes on to `port`; of each connection no more than the next of `cuts`, if any."""

    def __init__(self, port: int, cuts: list[int]) -> None:
        self.port = 0
        self.sent = 0
        """Bytes that came through, towards the server."""
        self.broken = 0
        self._target = port
        self.cuts = cuts

    @asynccontextmanager
    async def running(self) -> AsyncIterator[CuttingProxy]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, on = await asyncio.open_connection("127.0.0.1", self._target)
        back = asyncio.create_task(self._copy_back(there, writer))
        seen = 0
        try:
            while chunk := await reader.read(65536):
                if self.cuts and seen + len(chunk) > self.cuts[0]:
                    chunk = chunk[: self.cuts.pop(0) - seen]
                    self.broken += 1
                    on.write(chunk)
                    self.sent += len(chunk)
                    await on.drain()
                    return
                seen += len(chunk)
                self.sent += len(chunk)
                on.write(chunk)
                await on.drain()
        except ConnectionError:
            return
        finally:
            back.cancel()
            on.close()
            writer.transport.abort()

    async def _copy_back(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await there.read(65536):
            writer.write(chunk)
        writer.close()
