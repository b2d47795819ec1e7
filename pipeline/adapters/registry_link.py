"""One connection to the platform's own registry: one request at a time, bodies streamed both ways.

Pushing keeps a connection for as long as an archive flows; the shared client for strangers'
registries is not held up by that.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import httpx

from pipeline.adapters import http_faults
from pipeline.adapters.http_wire import Unanswered, Wire
from pipeline.rules import addresses
from pipeline.rules.registry_answers import refusal

BODY_MAX_BYTES: Final = 4 * 1024 * 1024
BUFFER_BYTES: Final = 1024 * 1024
"""What may wait in this process for the registry to take it."""
REQUEST_S: Final = 30.0
STALL_S: Final = 60.0
"""A registry that takes nothing for this long is given up."""
CONNECT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes = b""


class Endpoint:
    """Where the registry is, and whether it speaks TLS, which is found out once.

    Plain HTTP is spoken to loopback and private addresses and to `plain_hosts` only.
    """

    def __init__(self, registry: str, *, plain_hosts: frozenset[str] = frozenset()) -> None:
        self.registry = registry
        url = httpx.URL(f"//{registry}")
        self._host, self._port = url.host, url.port
        self._may_be_plain = registry in plain_hosts or self._host in plain_hosts
        self._is_tls: bool | None = None
        self._context: ssl.SSLContext | None = None

    async def connect(self) -> Wire:
        """Raises RegistryUnavailable."""
        try:
            if self._is_tls is None:
                return await self._discover()
            return (await self._dial(is_tls=self._is_tls))[0]
        except (OSError, TimeoutError) as error:
            kind: http_faults.Kind = "tls" if isinstance(error, ssl.SSLError) else "refused"
            kind = "timeout" if isinstance(error, TimeoutError) else kind
            raise http_faults.unavailable(self.registry, kind) from error

    async def _discover(self) -> Wire:
        try:
            wire, _ = await self._dial(is_tls=True)
            self._is_tls = True
        except ssl.SSLCertVerificationError:
            raise
        except (ssl.SSLError, ConnectionError):
            wire, address = await self._dial(is_tls=False)
            if not (self._may_be_plain or _is_local(address)):
                wire.close()
                raise
            self._is_tls = False
        return wire

    async def _dial(self, *, is_tls: bool) -> tuple[Wire, str]:
        if is_tls and self._context is None:
            self._context = httpx.create_ssl_context()
        async with asyncio.timeout(CONNECT_S):
            transport, wire = await asyncio.get_running_loop().create_connection(
                Wire,
                self._host,
                self._port or (443 if is_tls else 80),
                ssl=self._context if is_tls else None,
                server_hostname=self._host if is_tls else None,
            )
        transport.set_write_buffer_limits(high=BUFFER_BYTES)
        return wire, transport.get_extra_info("peername")[0]


class Link:
    """Raises RegistryUnavailable. After that, or when cancelled in mid-request, it reconnects."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._wire: Wire | None = None

    async def ask(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Answer:
        """A whole exchange. Sent once more when an idle connection turns out to be closed."""
        length = {"Content-Length": str(len(content))} if content is not None else {}
        if content is None and method in ("POST", "PUT", "PATCH"):
            length = {"Content-Length": "0"}
        head = self._head(method, path, {**(headers or {}), **length})
        is_reused = self._wire is not None
        try:
            return await self._exchange(method, head, content)
        except Unanswered:
            if not is_reused:
                raise http_faults.unavailable(self._endpoint.registry, "protocol") from None
        return await self._exchange(method, head, content)

    async def begin(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        """Start a request whose body is sent in chunks with `send` and ended with `end`."""
        chunked = {**headers, "Transfer-Encoding": "chunked"}
        with self._faults():
            wire = await self._ready()
            wire.begin(self._head(method, path, chunked), expects_body=True)

    async def send(self, pieces: Sequence[bytes | memoryview]) -> None:
        """One chunk. Returns once nearly all is with the registry.

        When cancelled, the chunk is sent nevertheless and the body can still be ended.
        """
        size = sum(map(len, pieces))
        if not size:
            return
        framed = [b"%x\r\n" % size, *pieces, b"\r\n"]
        with self._faults(is_whole=True):
            async with asyncio.timeout(STALL_S):
                if not await self._connected().send(framed):
                    answer = await self._answer()
                    raise refusal(
                        answer.status, answer.headers, registry=self.registry, wanted="a blob"
                    )

    async def end(self) -> Answer:
        with self._faults():
            async with asyncio.timeout(STALL_S):
                await self._connected().send([b"0\r\n\r\n"])
                return await self._answer()

    async def body(self, path: str) -> AsyncIterator[bytes]:
        """The body of a GET, piece by piece. Nothing else may be asked meanwhile."""
        with self._faults():
            async with asyncio.timeout(REQUEST_S):
                wire = await self._ready()
                wire.begin(self._head("GET", path, {}), expects_body=True)
                status, _ = await wire.answer()
            if status != 200:
                raise httpx.RemoteProtocolError(f"The registry answered {status}.")
            while piece := await self._piece(wire):
                yield piece

    def close(self) -> None:
        """Idempotent."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    async def _exchange(self, method: str, head: bytes, content: bytes | None) -> Answer:
        with self._faults():
            async with asyncio.timeout(REQUEST_S):
                wire = await self._ready()
                wire.begin(head, expects_body=method != "HEAD")
                if content:
                    await wire.send([content])
                return await self._answer()

    async def _piece(self, wire: Wire) -> bytes:
        async with asyncio.timeout(STALL_S):
            return await wire.read()

    async def _ready(self) -> Wire:
        if self._wire is None or self._wire.is_closed:
            self._wire = await self._endpoint.connect()
        return self._wire

    async def _answer(self) -> Answer:
        wire = self._connected()
        status, headers = await wire.answer()
        body = bytearray()
        while piece := await wire.read():
            body += piece
            if len(body) > BODY_MAX_BYTES:
                raise httpx.RemoteProtocolError("The registry's answer is too large.")
        if not wire.is_reusable:
            self.close()
        named = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}
        return Answer(status, named, bytes(body))

    def _connected(self) -> Wire:
        if self._wire is None:
            raise http_faults.unavailable(self.registry, "other")
        return self._wire

    @contextmanager
    def _faults(self, *, is_whole: bool = False) -> Iterator[None]:
        """Closes the connection of an exchange that did not end well, and says what happened."""
        try:
            yield
        except BaseException as error:
            if is_whole and isinstance(error, asyncio.CancelledError):
                raise
            self.close()
            match error:
                case Unanswered():
                    raise
                case httpx.HTTPError():
                    raise http_faults.translate(error, self.registry) from error
                case TimeoutError():
                    raise http_faults.unavailable(self.registry, "timeout") from error
            raise

    def _head(self, method: str, path: str, headers: Mapping[str, str]) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._endpoint.registry}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    @property
    def registry(self) -> str:
        return self._endpoint.registry


def _is_local(address: str) -> bool:
    return addresses.are_local([ipaddress.ip_address(address)])
