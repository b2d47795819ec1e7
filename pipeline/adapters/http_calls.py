"""Calls whose bodies flow: what is sent and what is answered passes through piece by piece.

Each has a connection of its own, so that one that lasts holds up no other. Names are judged as
everywhere (`http_names`); redirects are not followed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import httpx

from pipeline import tasks
from pipeline.adapters import http_faults, http_redirects
from pipeline.adapters.http_names import Names, PlainHttp, Rules, SystemResolver
from pipeline.adapters.http_transport import serialize
from pipeline.adapters.http_wire import Unanswered, Wire


@dataclass(frozen=True, slots=True)
class Called:
    """The head of an answer, and its body as it comes."""

    status: int
    headers: httpx.Headers
    pieces: AsyncGenerator[bytes]
    """Raises RegistryUnavailable when the peer breaks off, and what the sent body raised."""


class HttpCalls:
    """Safe to share. Time limits are the caller's, except the one to connect."""

    def __init__(self, names: Names, *, connect_s: float = 5) -> None:
        self._names = names
        self._connect_s = connect_s

    @classmethod
    @asynccontextmanager
    async def open(cls, rules: Rules) -> AsyncIterator[HttpCalls]:
        resolver = SystemResolver()
        try:
            yield cls(Names(resolver, rules))
        finally:
            resolver.close()

    @asynccontextmanager
    async def post(
        self, url: str, *, headers: Mapping[str, str], content: AsyncIterator[bytes]
    ) -> AsyncIterator[Called]:
        """Send `content` and yield the answer as soon as its head is there.

        `content` goes on being sent while the answer is read; leaving ends both. Without a
        Content-Length among `headers` it is sent in chunks. Raises RegistryUnavailable with
        `facts["kind"]` as `GuardedHttp.request` does, and `facts["is_silent"]` when the peer closed
        without a word; and what `content` raises.
        """
        request = http_redirects.first("POST", url, headers, content)
        pinned = await self._names.addresses(request.url, PlainHttp.ANYWHERE)
        host = request.url.host
        wire = await self._connected(request.url, pinned)
        try:
            head, body = serialize(request)
            wire.begin(head, expects_body=True)
            sending = asyncio.create_task(_send(wire, body), name=f"send to {host}")
            sending.add_done_callback(partial(_let_hear, wire))
            try:
                status, fields = await _answer(wire, sending)
                pieces = _pieces(wire, sending, host)
                yield Called(status, httpx.Headers(fields), pieces)
            finally:
                await tasks.end(sending)
        except httpx.HTTPError as error:
            fault = http_faults.translate(error, host)
            fault.facts["is_silent"] = isinstance(error, Unanswered)
            raise fault from error
        finally:
            wire.close()

    async def _connected(self, url: httpx.URL, pinned: tuple[str, ...]) -> Wire:
        failure: OSError | None = None
        for address in pinned:
            try:
                async with asyncio.timeout(self._connect_s):
                    _, wire = await asyncio.get_running_loop().create_connection(
                        Wire, address, url.port or 80
                    )
                return wire
            except OSError as error:  # a TimeoutError is one
                failure = error
        kind: http_faults.Kind = "timeout" if isinstance(failure, TimeoutError) else "refused"
        raise http_faults.unavailable(url.host, kind) from failure


async def _answer(wire: Wire, sending: asyncio.Task[None]) -> tuple[int, list[tuple[bytes, bytes]]]:
    """The head, or the failure of what is sent where that is the reason why there is none."""
    answering = asyncio.create_task(wire.answer(), name="await the answer")
    try:
        await asyncio.wait({sending, answering}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            _require(sending)
        return await answering
    finally:
        await tasks.end(answering)


async def _pieces(wire: Wire, sending: asyncio.Task[None], host: str) -> AsyncGenerator[bytes]:
    try:
        while piece := await wire.read():
            yield piece
    except httpx.HTTPError as error:
        _require(sending)
        raise http_faults.translate(error, host) from error


def _require(sending: asyncio.Task[None]) -> None:
    """Raises why the body could not be sent, unless the peer itself is the reason."""
    if failure := _failed(sending):
        raise failure


def _let_hear(wire: Wire, sending: asyncio.Task[None]) -> None:
    """Whoever waits for the answer wakes up when there is no more to be sent for it."""
    if _failed(sending):
        wire.close()


def _failed(sending: asyncio.Task[None]) -> BaseException | None:
    if not sending.done() or sending.cancelled():
        return None
    failure = sending.exception()
    return None if isinstance(failure, httpx.HTTPError) else failure


async def _send(wire: Wire, body: AsyncIterable[bytes] | None) -> None:
    if body is not None:
        await wire.pour(body)
