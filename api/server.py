"""The HTTP server process: uvicorn, with an end to callers who stall and an orderly stop."""

from __future__ import annotations

import asyncio
import socket
from typing import Any
from urllib.parse import unquote

import httptools
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from api.app import drain
from api.direct_body import VIEWS, WORTH_BYTES, DirectBody
from api.doors import Doors
from api.lingering import Linger
from api.old_http import Unframed
from api.problems import Failure
from pipeline.settings import Settings

STALL_S = 60.0
"""A caller that takes nothing of its answer for this long is cut off."""
KEEP_ALIVE_S = 75
BACKLOG = 2048


class BoundedProtocol(HttpToolsProtocol):
    """Holds no more than the transport's buffer for a slow caller, and that not for ever.

    What a caller sent before the connection broke is handed on before the break is. Large bodies
    go past the parser where that is asked for. What is no HTTP is refused in the shape of its door.
    The head of a request has to be here within `head_s`.
    """

    doors = Doors()
    head_s = 30.0
    _stalled: asyncio.TimerHandle | None = None
    _head: asyncio.TimerHandle | None = None
    """Runs from the first byte of a request, and of the first request from the connection on."""
    _has_begun = False
    _fault = ""
    """Of a head that the parser finds no fault in."""
    _missing = 0
    """Bytes of the body that were not parsed yet, where its length is known."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        self._has_begun = True
        if self._head is None and (self.cycle is None or self.cycle.response_complete):
            self._await_head()
        super().data_received(data)

    def _await_head(self) -> None:
        self._head = self.loop.call_later(self.head_s, self._give_up)

    def _give_up(self) -> None:
        if self._has_begun and not self.transport.is_closing():
            why = f"The head of the request was not here within {self.head_s:g} s: send it again."
            self._refuse(Failure(408, "request_timeout", why))
        self.transport.close()

    def _head_is_here(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def on_headers_complete(self) -> None:
        self._head_is_here()
        version, names = self.parser.get_http_version(), [name for name, _ in self.headers]
        if version == "1.1" and names.count(b"host") != 1:
            # The parser turns it into `send_400_response`.
            self._fault = "A request of HTTP/1.1 names its Host, once."
            raise ValueError(self._fault)
        super().on_headers_complete()
        if version == "1.0" and self.cycle is not None:
            self.cycle.send = Unframed(self.cycle)  # type: ignore[method-assign]
        self._missing = _length(self.headers)
        if self.cycle is not None:
            # uvicorn forgets what it holds of a body once the connection is lost.
            receive = _Receive(self, self.cycle)
            self.cycle.receive = receive  # type: ignore[method-assign]
            self.cycle.scope.setdefault("extensions", {})[VIEWS] = {"take": receive.take_views}

    def send_400_response(self, msg: str) -> None:
        self._head_is_here()
        self._refuse(Failure(400, "malformed_request", self._fault or msg))

    def _refuse(self, failure: Failure) -> None:
        """Ends the connection with an answer to what was no whole request."""
        target = getattr(self, "url", None) or b""
        path = unquote(target.partition(b"?")[0].decode("latin-1"))
        answer = self.doors.answer(failure, path)
        headers = [*answer.raw_headers, (b"connection", b"close")]
        lines = [b"%s: %s\r\n" % header for header in headers]
        head = f"HTTP/1.1 {failure.status} {failure.title}\r\n".encode() + b"".join(lines)
        self.transport.write(head + b"\r\n" + bytes(answer.body))
        self.transport.close()

    def on_body(self, body: bytes) -> None:
        self._missing -= len(body)
        super().on_body(body)

    def read_directly(self, cycle: RequestResponseCycle) -> DirectBody | None:
        """The rest of the request's body, if that is worth it. Nobody else may read it then."""
        is_asked = cycle is self.cycle and cycle.more_body and not cycle.waiting_for_100_continue
        if not is_asked or self._missing < WORTH_BYTES or self.transport.is_closing():
            return None
        direct = DirectBody(self.transport, cycle, self._missing, self._fresh)
        self.flow.resume_reading()
        direct.begin()
        return direct

    def _fresh(self) -> BoundedProtocol:
        """Ready for the next request: this one's parser still waits for the body."""
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return self

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(STALL_S, self.transport.abort)

    def resume_writing(self) -> None:
        self._forgive()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forgive()
        self._head_is_here()
        super().connection_lost(exc)

    def _forgive(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None


class _Receive:
    """What the application calls to get the next part of a request."""

    def __init__(self, protocol: BoundedProtocol, cycle: RequestResponseCycle) -> None:
        self._protocol = protocol
        self._cycle = cycle
        self._next = cycle.receive
        self._takes_views = False
        self._direct: DirectBody | None = None

    def take_views(self) -> None:
        """Whoever reads the body from now on is content with views instead of bytes."""
        self._takes_views = True

    async def __call__(self) -> Any:
        if self._takes_views and self._direct is None:
            self._direct = self._protocol.read_directly(self._cycle)
        if self._direct is not None and not self._direct.is_over:
            return await self._direct.receive()
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
        http=_protocol(app, settings),
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


def _protocol(app: FastAPI, settings: Settings) -> type[BoundedProtocol]:
    class Protocol(BoundedProtocol):
        doors = app.state.doors
        head_s = settings.request_silence_s

    return Protocol


def _length(headers: list[tuple[bytes, bytes]]) -> int:
    """0 for a body that comes in chunks."""
    named = dict(headers)
    length = named.get(b"content-length", b"0")
    return int(length) if length.isdigit() and b"transfer-encoding" not in named else 0
