"""The HTTP server process: uvicorn, with an end to stalled callers and an orderly stop."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from api.app import drain
from api.lingering import Linger
from pipeline.settings import Settings

STALL_S = 60.0
"""A caller that takes nothing of its answer for this long is cut off."""
KEEP_ALIVE_S = 75
BACKLOG = 2048


class BoundedProtocol(HttpToolsProtocol):
    """Holds no more than the transport's buffer for a slow caller, and that not for ever.

    What a caller sent before the connection broke is handed on before the break is.
    """

    _stalled: asyncio.TimerHandle | None = None

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self.cycle is not None:
            # uvicorn forgets what it holds of a body once the connection is lost.
            self.cycle.receive = _Receive(self.cycle)  # type: ignore[method-assign]

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(STALL_S, self.transport.abort)

    def resume_writing(self) -> None:
        self._forgive()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forgive()
        super().connection_lost(exc)

    def _forgive(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None


class _Receive:
    """What the application calls to get the next part of a request."""

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._next = cycle.receive

    async def __call__(self) -> Any:
        message = await self._next()
        cycle = self._cycle
        if message["type"] != "http.disconnect" or cycle.response_complete or not cycle.body:
            return message
        body, cycle.body = bytes(cycle.body), bytearray()
        return {"type": "http.request", "body": body, "more_body": True}


class Server(uvicorn.Server):
    """On SIGTERM: takes no new connections, ends streams and waits, finishes what is in flight."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        drain(self._app)
        await super().shutdown(sockets)


def server(app: FastAPI, settings: Settings) -> Server:
    """Not started yet: `run` it in a process of its own, or await `serve` in a running loop."""
    config = uvicorn.Config(
        Linger(app),
        host=settings.api_host,
        port=settings.api_port,
        http=BoundedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=settings.access_log,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=round(settings.drain_s),
    )
    return Server(config, app)
