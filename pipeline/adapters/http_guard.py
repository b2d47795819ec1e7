"""HTTP requests to addresses that users give: every one of them goes through here.

A name is resolved once, all its addresses are judged (`pipeline.rules.addresses`), and the
connection goes to a judged address. Each redirect starts again with that. Environment proxies are
not used and no cookies are kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

import httpx

from pipeline.adapters import http_faults, http_redirects
from pipeline.adapters.http_names import Names, PlainHttp, Rules, SystemResolver
from pipeline.adapters.http_transport import PinnedTransport
from pipeline.errors import AddressRefused, RegistryUnavailable


@dataclass(frozen=True, slots=True)
class Limits:
    total_s: float = 30
    """From the first resolution to the last byte, redirects included."""
    body_max_bytes: int = 1024 * 1024
    redirects: int = 5


OnHead: TypeAlias = Callable[[httpx.Response], None]

DEFAULT_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer of any status."""

    status: int
    reason: str
    headers: httpx.Headers
    body: bytes
    is_truncated: bool
    """The body went on; what lies beyond the limit was not read."""
    url: str
    is_foreign: bool
    """It came, by redirects, from another origin than the one asked."""


@dataclass(slots=True)
class _Trail:
    """What one request has met so far, for the error that may end it."""

    host: str
    redirects: int = 0
    last: httpx.Response | None = None


class GuardedHttp:
    """A client for untrusted addresses. Safe to share; keeps connections open."""

    def __init__(self, transport: httpx.AsyncBaseTransport, names: Names) -> None:
        """`transport` connects to the addresses in the request extension `pinned`, only."""
        self._transport = transport
        self._names = names

    @classmethod
    @asynccontextmanager
    async def open(cls, rules: Rules) -> AsyncIterator[GuardedHttp]:
        transport, resolver = PinnedTransport(), SystemResolver()
        try:
            yield cls(transport, Names(resolver, rules))
        finally:
            resolver.close()
            await transport.aclose()

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | AsyncIterable[bytes] | None = None,
        limits: Limits = DEFAULT_LIMITS,
        plain: PlainHttp = PlainHttp.ANYWHERE,
        on_head: OnHead | None = None,
    ) -> Reply:
        """The answer after redirects, whatever its status.

        Credentials are dropped on a redirect to another scheme, host or port. Raises InvalidInput
        for a malformed URL, AddressRefused, and RegistryUnavailable with `facts["kind"]`: dns,
        refused, timeout, tls, redirect, protocol, other. After a redirect both carry in `facts`
        the `status` and `reason` of the last one. `on_head` is called when the head of an answer,
        redirects included, is there: its body may never come.
        """
        request = http_redirects.first(method, url, headers, content)
        trail = _Trail(request.url.host)
        try:
            async with asyncio.timeout(limits.total_s):
                return await self._follow(request, limits, plain, trail, on_head)
        except TimeoutError as error:
            late = http_faults.unavailable(trail.host, "timeout")
            _tell_redirect(late, trail)
            raise late from error
        except (AddressRefused, RegistryUnavailable) as error:
            _tell_redirect(error, trail)
            raise

    async def pinned(self, url: str) -> tuple[tuple[str, ...], int]:
        """Addresses and port behind `url`, for those who connect by other means than HTTP.

        Raises InvalidInput for a malformed URL, AddressRefused, RegistryUnavailable (kind dns).
        """
        parsed = http_redirects.first("GET", url, None, None).url
        port = parsed.port or (443 if parsed.scheme == "https" else 80)
        return await self._names.addresses(parsed, PlainHttp.ANYWHERE), port

    async def _follow(
        self,
        request: httpx.Request,
        limits: Limits,
        plain: PlainHttp,
        trail: _Trail,
        on_head: OnHead | None,
    ) -> Reply:
        is_foreign = False
        while True:
            trail.host = request.url.host
            response, body, is_truncated = await self._hop(request, limits, plain, on_head)
            location = response.headers.get("location")
            if response.status_code not in http_redirects.STATUSES or location is None:
                break
            trail.last = response
            trail.redirects += 1
            if trail.redirects > limits.redirects:
                raise http_faults.unavailable(trail.host, "redirect")
            following = http_redirects.following(request, response.status_code, location)
            is_foreign = is_foreign or http_redirects.leaves(request.url, following.url)
            request = following
        return Reply(
            response.status_code,
            response.reason_phrase,
            response.headers,
            body,
            is_truncated,
            str(request.url),
            is_foreign,
        )

    async def _hop(
        self, request: httpx.Request, limits: Limits, plain: PlainHttp, on_head: OnHead | None
    ) -> tuple[httpx.Response, bytes, bool]:
        request.extensions = {"pinned": await self._names.addresses(request.url, plain)}
        try:
            response = await self._transport.handle_async_request(request)
            assert isinstance(response.stream, httpx.AsyncByteStream)
            try:
                if on_head is not None:
                    on_head(response)
                return response, *await _read(response.stream, limits.body_max_bytes)
            finally:
                await response.stream.aclose()
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise http_faults.translate(error, request.url.host) from error


def json_reply(status: int, body: bytes, *, is_truncated: bool = False) -> Reply:
    """What HTTP would answer where another protocol was spoken."""
    headers = httpx.Headers({"content-type": "application/json"})
    return Reply(status, "", headers, body, is_truncated, "", is_foreign=False)


async def _read(stream: AsyncIterable[bytes], limit: int) -> tuple[bytes, bool]:
    pieces: list[bytes] = []
    size = 0
    async for piece in stream:
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            return b"".join(pieces)[:limit], True
    return b"".join(pieces), False


def _tell_redirect(error: AddressRefused | RegistryUnavailable, trail: _Trail) -> None:
    if trail.last is not None:
        error.facts.update(status=trail.last.status_code, reason=trail.last.reason_phrase)
