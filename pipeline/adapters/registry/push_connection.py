"""One connection to the platform's own registry: one request at a time, bodies streamed both ways.

Pushing keeps a connection for as long as an archive flows; the shared client for strangers'
registries is not held up by that.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Final
from urllib.parse import parse_qs

import httpx

from pipeline import addresses
from pipeline.adapters.http import faults
from pipeline.adapters.http.connection import HttpConnection, Unanswered, request_head, tls_context
from pipeline.adapters.registry.responses import refusal, unavailable
from pipeline.adapters.registry.tokens import PUSH, Access, RegistryTokens
from pipeline.errors import RegistryUnavailable, Unreachable

BODY_MAX_BYTES: Final = 4 * 1024 * 1024
BUFFER_BYTES: Final = 1024 * 1024
"""What may wait in this process for the registry to take it."""
REQUEST_S: Final = 30.0
STALL_S: Final = 60.0
"""A registry that takes nothing for this long is given up."""
CONNECT_S: Final = 5.0

_REPOSITORY: Final = re.compile(r"/v2/(.+)/(?:blobs|manifests)/")


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer of the registry, of any status."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    registry: str

    def require(self, status: int, wanted: str) -> None:
        """Raises of the RegistryError family for any other status."""
        if self.status == 405:
            raise RegistryUnavailable(
                f"{self.registry} takes no changes now: its space is being collected, or its"
                " configuration allows none (`storage.delete.enabled`).",
                kind="other",
                registry=self.registry,
            )
        if self.status != status:
            raise refusal(self.status, self.headers, registry=self.registry, wanted=wanted)


class Endpoint:
    """Where the registry is, and whether it speaks TLS, which is found out once.

    Plain HTTP is spoken to loopback and private addresses and to `plain_hosts` only.
    """

    def __init__(
        self, tokens: RegistryTokens, *, plain_hosts: frozenset[str] = frozenset()
    ) -> None:
        self.registry = registry = tokens.registry
        self._tokens = tokens
        url = httpx.URL(f"//{registry}")
        self._host, self._port = url.host, url.port
        self._may_be_plain = registry in plain_hosts or self._host in plain_hosts
        self._is_tls: bool | None = None

    def authorization(self, path: str) -> dict[str, str]:
        """The header that proves that we may do anything in the repositories that `path` names."""
        if not self._tokens.are_needed:
            return {}
        where, _, query = path.partition("?")
        found = _REPOSITORY.match(where)
        named = [found[1]] if found else []
        access = (Access(name, PUSH) for name in named + parse_qs(query).get("from", []))
        return {"Authorization": f"Bearer {self._tokens.token(*access)}"}

    async def connect(self) -> HttpConnection:
        """Raises Unreachable."""
        try:
            if self._is_tls is None:
                return await self._discover()
            return await self._open(is_tls=self._is_tls)
        except httpx.TransportError as error:
            raise faults.translate(error, self.place) from error

    @property
    def place(self) -> str:
        return faults.place_of(self.registry, "http" if self._is_tls is False else "https")

    async def _discover(self) -> HttpConnection:
        try:
            connection = await self._open(is_tls=True)
            self._is_tls = True
        except httpx.ConnectError as error:
            if faults.kind_of(error) not in ("tls", "refused") or faults.distrusts(error):
                raise
            connection = await self._open(is_tls=False)
            if not (self._may_be_plain or _is_local(connection.peer)):
                connection.close()
                raise
            self._is_tls = False
        return connection

    async def _open(self, *, is_tls: bool) -> HttpConnection:
        connection = await HttpConnection.open(
            self._host,
            self._port or (443 if is_tls else 80),
            tls=self._tls if is_tls else None,
            name=self._host,
            connect_s=CONNECT_S,
        )
        connection.buffer(BUFFER_BYTES)
        return connection

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return tls_context()


class PushConnection:
    """Raises RegistryUnavailable. After that, or when cancelled in mid-request, it reconnects."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._connection: HttpConnection | None = None

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
        if self._connection is not None:
            with suppress(Unanswered):
                return await self._exchange(method, head, content)
        try:
            return await self._exchange(method, head, content)
        except Unanswered:
            raise unavailable(faults.unavailable(self.place, "protocol")) from None

    async def begin(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        """Start a request whose body is sent in chunks with `send` and ended with `end`."""
        chunked = {**headers, "Transfer-Encoding": "chunked"}
        with self._faults():
            connection = await self._ready()
            connection.begin(self._head(method, path, chunked), expects_body=True)

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
                connection = await self._ready()
                connection.begin(self._head("GET", path, {}), expects_body=True)
                status, _ = await connection.answer()
            if status != 200:
                raise httpx.RemoteProtocolError(f"The registry answered {status}.")
            while piece := await self._piece(connection):
                yield piece

    def close(self) -> None:
        """Idempotent."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _exchange(self, method: str, head: bytes, content: bytes | None) -> Answer:
        with self._faults(is_repeatable=True):
            async with asyncio.timeout(REQUEST_S):
                connection = await self._ready()
                connection.begin(head, expects_body=method != "HEAD")
                if content:
                    await connection.send([content])
                return await self._answer()

    async def _piece(self, connection: HttpConnection) -> bytes:
        async with asyncio.timeout(STALL_S):
            return await connection.read()

    async def _ready(self) -> HttpConnection:
        if self._connection is None or self._connection.is_closed:
            self._connection = await self._endpoint.connect()
        return self._connection

    async def _answer(self) -> Answer:
        connection = self._connected()
        status, headers = await connection.answer()
        body = bytearray()
        while piece := await connection.read():
            body += piece
            if len(body) > BODY_MAX_BYTES:
                raise httpx.RemoteProtocolError("The registry's answer is too large.")
        if not connection.is_reusable:
            self.close()
        named = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}
        return Answer(status, named, bytes(body), self.registry)

    def _connected(self) -> HttpConnection:
        if self._connection is None:
            raise faults.unavailable(self.place, "other")
        return self._connection

    @contextmanager
    def _faults(self, *, is_whole: bool = False, is_repeatable: bool = False) -> Iterator[None]:
        """Closes the connection of an exchange that did not end well, and says what happened.

        Raises Unanswered, too, when `is_repeatable`.
        """
        try:
            yield
        except BaseException as error:
            if is_whole and isinstance(error, asyncio.CancelledError):
                raise
            self.close()
            match error:
                case Unanswered() if is_repeatable:
                    raise
                case httpx.HTTPError():
                    raise unavailable(faults.translate(error, self.place)) from error
                case TimeoutError():
                    raise unavailable(faults.unavailable(self.place, "timeout")) from error
                case Unreachable():
                    raise unavailable(error) from error
            raise

    def _head(self, method: str, path: str, headers: Mapping[str, str]) -> bytes:
        proof = self._endpoint.authorization(path)
        fields = {"Host": self._endpoint.registry, **proof, **headers}.items()
        named = ((name.encode("latin-1"), value.encode("latin-1")) for name, value in fields)
        return request_head(method, path.encode("latin-1"), named)

    @property
    def registry(self) -> str:
        return self._endpoint.registry

    @property
    def place(self) -> str:
        return self._endpoint.place


def _is_local(address: str) -> bool:
    return addresses.are_local([ipaddress.ip_address(address)])
