"""Calls whose bodies flow through: to containers of ours, from callers of theirs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import httpx

from pipeline import concurrency
from pipeline.adapters.http import faults
from pipeline.adapters.http.connection import Headers, HttpConnection, Unanswered, request_head
from pipeline.adapters.http.guarded import first_request
from pipeline.adapters.http.pool import chunked, connect, origin_of, serialize
from pipeline.adapters.http.resolving import GuardedResolver, PlainHttp, Rules, SystemResolver

SWITCHED: Final = 101
"""The connection speaks another protocol from then on."""


@dataclass(frozen=True, slots=True)
class StreamedAnswer:
    """The head of an answer, and its body as it comes."""

    status: int
    headers: httpx.Headers
    pieces: AsyncGenerator[bytes]
    """Raises Unreachable when the peer breaks off, and what the sent body raised."""


class StreamingHttp:
    """Calls whose bodies flow: what is sent and what is answered passes through piece by piece.

    Each has a connection of its own, so that one that lasts holds up no other. Redirects are not
    followed. Safe to share. Time limits are the caller's, except the one to connect.
    """

    def __init__(self, names: GuardedResolver, *, connect_s: float = 5) -> None:
        self._names = names
        self._connect_s = connect_s

    @classmethod
    @asynccontextmanager
    async def open(cls, rules: Rules) -> AsyncIterator[StreamingHttp]:
        resolver = SystemResolver()
        try:
            yield cls(GuardedResolver(resolver, rules))
        finally:
            resolver.close()

    @asynccontextmanager
    async def post(
        self, url: str, *, headers: Mapping[str, str], content: AsyncIterator[bytes]
    ) -> AsyncIterator[StreamedAnswer]:
        """Send `content` and yield the answer as soon as its head is there.

        `content` goes on being sent while the answer is read; leaving ends both. Without a
        Content-Length among `headers` it is sent in chunks. Raises Unreachable with
        `facts["kind"]` as `GuardedHttp.request` does, and `facts["is_silent"]` when the peer closed
        without a word; and what `content` raises.
        """
        request = first_request("POST", url, headers, content)
        head, body = serialize(request)
        async with self._exchange(request.url, head, body, expects_body=True) as answer:
            yield answer

    @asynccontextmanager
    async def pass_on(
        self,
        origin: str,
        method: str,
        target: bytes,
        headers: Headers,
        content: AsyncIterator[bytes] | None,
    ) -> AsyncIterator[StreamedAnswer]:
        """As `post`, for any request, which goes on exactly as it came.

        `origin` is `http://host:port`. With a Transfer-Encoding among `headers` the `content` is
        sent in chunks. With an Upgrade it is sent once that was answered by 101, and both ways
        whatever they speak then.
        """
        url = first_request(method, origin, None, None).url
        head = request_head(method, target, headers)
        is_chunked = any(name.lower() == b"transfer-encoding" for name, _ in headers)
        body = chunked(content) if is_chunked and content is not None else content
        asks_upgrade = any(name.lower() == b"upgrade" for name, _ in headers)
        exchange = self._exchange(
            url, head, body, expects_body=method != "HEAD", asks_upgrade=asks_upgrade
        )
        async with exchange as answer:
            yield answer

    @asynccontextmanager
    async def _exchange(
        self,
        url: httpx.URL,
        head: bytes,
        body: AsyncIterable[bytes] | None,
        *,
        expects_body: bool,
        asks_upgrade: bool = False,
    ) -> AsyncIterator[StreamedAnswer]:
        connection = await self._connected(url)
        connection.begin(head, expects_body=expects_body, may_upgrade=asks_upgrade)
        may_send = asyncio.Event()
        if not asks_upgrade:
            may_send.set()
        sending = asyncio.create_task(_send(connection, body, may_send), name=f"send to {url.host}")
        sending.add_done_callback(partial(_pass_on, connection))
        try:
            status, fields = await connection.answer()
            if status == SWITCHED:
                may_send.set()
            yield StreamedAnswer(status, httpx.Headers(fields), _pieces(connection, url))
        except httpx.HTTPError as error:
            fault = faults.translate(error, url)
            fault.facts["is_silent"] = isinstance(error, Unanswered)
            raise fault from error
        finally:
            await concurrency.cancel_and_wait(sending)
            connection.close()

    async def _connected(self, url: httpx.URL) -> HttpConnection:
        addresses = await self._names.addresses(url, PlainHttp.ANYWHERE)
        try:
            return await connect(addresses, origin_of(url), tls=None, connect_s=self._connect_s)
        except httpx.TransportError as error:
            kind: faults.Kind = "timeout" if isinstance(error, httpx.ConnectTimeout) else "refused"
            raise faults.unavailable(url, kind) from error


async def _send(
    connection: HttpConnection, body: AsyncIterable[bytes] | None, may_send: asyncio.Event
) -> None:
    if body is not None:
        await may_send.wait()
        await connection.send_all(body, is_duplex=True)


def _pass_on(connection: HttpConnection, sending: asyncio.Task[None]) -> None:
    """Whoever reads the answer gets what the body raised."""
    failure = None if sending.cancelled() else sending.exception()
    if isinstance(failure, Exception):
        connection.fail(failure)


async def _pieces(connection: HttpConnection, url: httpx.URL) -> AsyncGenerator[bytes]:
    try:
        while piece := await connection.read():
            yield piece
    except httpx.HTTPError as error:
        raise faults.translate(error, url) from error
