"""The server: uvicorn with bounds on slow callers, answers to HTTP/1.0 and an orderly stop."""

from __future__ import annotations

import asyncio
import socket
from typing import Any
from urllib.parse import unquote

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from api.app import drain
from api.http import middleware
from api.http.middleware import DrainRequest
from api.http.problem_details import ErrorRenderers, Failure
from api.server.framing import Excess, Framing, check_target
from api.server.tunnel import TunnelAnswer
from pipeline.settings import Settings


class Http10Answer:
    """What the application calls to answer a request of HTTP/1.0 (RFC 9112, 6.1)."""

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._send = cycle.send
        self._is_unframed = False

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            names = {name.lower() for name, _ in message.get("headers", [])}
            self._is_unframed = b"content-length" not in names
            if self._is_unframed:
                # Otherwise uvicorn decides for chunks.
                self._cycle.chunked_encoding = False
        elif self._is_unframed:
            self._cycle.expected_content_length = len(message.get("body", b""))
        await self._send(message)


STALL_S = 60.0
"""A caller that takes nothing of its answer for this long is cut off."""
KEEP_ALIVE_S = 75
BACKLOG = 2048
PIECES_AT_ONCE = 256
"""Of what one caller sent are handed to the parser; then the others have their turn."""


class BoundedProtocol(HttpToolsProtocol):
    """Holds no more than the transport's buffer for a slow caller, and that not for ever.

    What a caller sent before the connection broke is handed on before the break is. What is no HTTP
    is refused in the shape of its door. The head of a request has to be here within `head_s`, and
    what is no body is bounded (`framing`). A request behind another one waits for its answer.
    """

    renderers = ErrorRenderers()
    head_s = 30.0
    flow: _Flow
    _stalled: asyncio.TimerHandle | None = None
    _head: asyncio.TimerHandle | None = None
    """Runs from the first byte of a request, and of the first request from the connection on."""
    _has_begun = False
    _failure: Failure | None = None
    """Of a request that the parser finds no fault in."""
    _framing: Framing
    _held = b""
    """Has come, and is not taken yet."""
    _again: asyncio.Handle | None = None
    _is_tunnel = False
    """What comes is no HTTP any more, see `tunnel`."""
    _ignorable: int | None = None
    """Bytes that are still thrown away, once the sender was refused."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow, self._framing = _Flow(transport), Framing()
        self._await_head()

    def data_received(self, data: bytes) -> None:
        self._has_begun = True
        if self._ignorable is not None:
            self._ignore(len(data))
            return
        if self._is_tunnel:
            self._pass(data)
            return
        self._held = self._held + data if self._held else data
        if self._again is None:
            self._take(PIECES_AT_ONCE)

    def _take(self, pieces: int | None) -> None:
        """Feeds the parser what was held, at most so many pieces before others have their turn."""
        self._again = None
        data, at, end = self._held, 0, 0
        view = memoryview(data)
        while at < len(data) and pieces != 0 and not self._must_wait():
            try:
                end = self._framing.cut(data, at)
            except Excess as excess:
                self._refuse(excess.failure)
            else:
                super().data_received(view[at:end])  # type: ignore[arg-type]
            if self._ignorable is not None:
                return
            at, pieces = end, pieces and pieces - 1
        self._hold(data[at:])
        if self._held and not self._must_wait():
            self._again = self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._take(PIECES_AT_ONCE)
        self.flow.resume_reading()

    def _hold(self, data: bytes) -> None:
        self._held, self.flow.is_holding = data, bool(data)
        if data:
            self.flow.pause_reading()

    def _must_wait(self) -> bool:
        """Whether the next byte is of a request behind one that is not answered."""
        if not self._framing.is_in_head:
            return False
        if self.cycle is not None and not self.cycle.response_complete:
            return True
        if self._head is None:
            self._await_head()
        return False

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._held and self._again is None and not self.transport.is_closing():
            self._go_on()

    def _await_head(self) -> None:
        self._head = self.loop.call_later(self.head_s, self._give_up)

    def _give_up(self) -> None:
        if not self._has_begun:
            self.transport.close()
        elif not self.transport.is_closing():
            why = f"The head of the request was not here within {self.head_s:g} s: send it again."
            self._refuse(Failure(408, "request_timeout", why))

    def _head_is_here(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def on_message_begin(self) -> None:
        self._framing.begin()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        try:
            check_target(len(self.url) + len(url))
        except Excess as excess:
            self._failure = excess.failure
            raise  # the parser turns it into `send_400_response`
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers are no fields of the head (RFC 9110, 6.5.1), and nobody asked for them.
        if self._framing.is_in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head_is_here()
        version, names = self.parser.get_http_version(), [name for name, _ in self.headers]
        if version == "1.1" and names.count(b"host") != 1:
            # The parser turns it into `send_400_response`.
            why = "A request of HTTP/1.1 names its Host, once."
            self._failure = Failure(400, "malformed_request", why)
            raise ValueError(why)
        self._framing.head(_length(self.headers))
        super().on_headers_complete()
        if cycle := self.cycle:
            cycle.receive = _Receive(cycle)  # type: ignore[method-assign]
            if version == "1.0":
                cycle.send = Http10Answer(cycle)  # type: ignore[method-assign]
            elif b"upgrade" in names and self.parser.should_upgrade():
                cycle.scope["extensions"] = {middleware.TUNNEL: {}}
                cycle.send = TunnelAnswer(cycle, self._open_tunnel)  # type: ignore[method-assign]

    def _unsupported_upgrade_warning(self) -> None:
        """Whoever asks for another protocol is answered in HTTP, or gets a tunnel."""

    def _open_tunnel(self) -> None:
        self._is_tunnel, self.cycle.more_body = True, True
        held = self._held
        self._hold(b"")
        self._pass(held)

    def _pass(self, data: bytes) -> None:
        self.cycle.body += data
        if len(self.cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        self.cycle.message_event.set()

    def on_chunk_header(self) -> None:
        self._framing.chunk()

    def on_message_complete(self) -> None:
        self._framing = Framing()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._failure or Failure(400, "malformed_request", msg))

    def _refuse(self, failure: Failure) -> None:
        """Ends the connection with an answer to what was no whole request.

        It is read on for a while: see `DrainRequest`.
        """
        self._head_is_here()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if cycle.response_started:
                self._ignore_the_rest(0)
                self.transport.close()
                return
            cycle.disconnected = True
            cycle.message_event.set()
        target = getattr(self, "url", None) or b""
        path = unquote(target.partition(b"?")[0].decode("latin-1"))
        answer = self.renderers.answer(failure, path)
        headers = [*answer.raw_headers, (b"connection", b"close")]
        lines = [b"%s: %s\r\n" % header for header in headers]
        head = f"HTTP/1.1 {failure.status} {failure.title}\r\n".encode() + b"".join(lines)
        self.transport.write(head + b"\r\n" + bytes(answer.body))
        self._linger()

    def _linger(self) -> None:
        self._ignore_the_rest(middleware.LINGER_BYTES)
        if not self.transport.can_write_eof():
            self.transport.close()
            return
        self.transport.write_eof()
        self.flow.resume_reading()
        self._head = self.loop.call_later(middleware.LINGER_S, self.transport.close)

    def _ignore_the_rest(self, most: int) -> None:
        self._ignorable = most
        self._hold(b"")

    def _ignore(self, count: int) -> None:
        self._ignorable = (self._ignorable or 0) - count
        if self._ignorable < 0:
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(STALL_S, self.transport.abort)

    def resume_writing(self) -> None:
        self._forgive()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._again is not None:
            self._again.cancel()
            self._take(None)
        self._hold(b"")
        self._forgive()
        self._head_is_here()
        super().connection_lost(exc)

    def _forgive(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None


def _length(headers: list[tuple[bytes, bytes]]) -> int | None:
    """Of the body; None when it comes in chunks. The parser has judged both fields."""
    names = dict(headers)
    return None if b"transfer-encoding" in names else int(names.get(b"content-length", b"0"))


class _Flow(FlowControl):
    """Reads nothing new while something is held."""

    is_holding = False

    def resume_reading(self) -> None:
        if not self.is_holding:
            super().resume_reading()


class _Receive:
    """What the application calls to get the next part of a request.

    uvicorn forgets what it holds of a body once the connection is lost.
    """

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
        DrainRequest(app),
        host=settings.api_host,
        port=settings.api_port,
        http=_protocol(app, settings),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=settings.access_log,
        server_header=False,
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=settings.proxies,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=round(settings.drain_s),
    )
    return Server(config, app)


def _protocol(app: FastAPI, settings: Settings) -> type[BoundedProtocol]:
    class Protocol(BoundedProtocol):
        renderers = app.state.renderers
        head_s = settings.request_silence_s

    return Protocol
