"""HTTP requests to addresses that users give: every one of them goes through here.

A name is resolved once, all its addresses are judged (`pipeline.addresses`), and the
connection goes to a judged address. Each redirect starts again with that. Environment proxies are
not used and no cookies are kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import urlsplit

import httpx

from pipeline import addresses
from pipeline.adapters.http import faults
from pipeline.adapters.http.pool import PinnedTransport
from pipeline.adapters.http.resolving import GuardedResolver, PlainHttp, Rules, SystemResolver
from pipeline.errors import AddressRefused, InvalidInput, Unreachable


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


@dataclass(frozen=True, slots=True)
class StreamedReply:
    """An answer of any status whose body may be of any size."""

    status: int
    headers: httpx.Headers
    pieces: AsyncGenerator[bytes]
    """The body as it comes. Raises Unreachable when the peer breaks off."""


@dataclass(slots=True)
class _Trail:
    """What one request has met so far, for the error that may end it."""

    url: httpx.URL
    redirects: int = 0
    last: httpx.Response | None = None


class GuardedHttp:
    """A client for untrusted addresses. Safe to share; keeps connections open."""

    def __init__(self, transport: httpx.AsyncBaseTransport, names: GuardedResolver) -> None:
        """`transport` connects to the addresses in the request extension `pinned`, only."""
        self._transport = transport
        self._names = names

    @classmethod
    @asynccontextmanager
    async def open(cls, rules: Rules) -> AsyncIterator[GuardedHttp]:
        transport, resolver = PinnedTransport(), SystemResolver()
        try:
            yield cls(transport, GuardedResolver(resolver, rules))
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
        for a malformed URL, AddressRefused, and Unreachable with `facts["kind"]`: dns,
        refused, timeout, tls, redirect, protocol, other. After a redirect both carry in `facts`
        the `status` and `reason` of the last one. `on_head` is called when the head of an answer,
        redirects included, is there: its body may never come.
        """
        request = first_request(method, url, headers, content)
        trail = _Trail(request.url)
        try:
            async with asyncio.timeout(limits.total_s):
                return await self._follow(request, limits, plain, trail, on_head)
        except TimeoutError as error:
            late = faults.unavailable(trail.url, "timeout")
            _tell_redirect(late, trail)
            raise late from error
        except (AddressRefused, Unreachable) as error:
            _tell_redirect(error, trail)
            raise

    @asynccontextmanager
    async def stream(
        self, url: str, *, headers: Mapping[str, str], head_s: float, redirects: int = 5
    ) -> AsyncIterator[StreamedReply]:
        """GET what may be of any size, after redirects. `head_s` is for each head.

        Raises as `request`.
        """
        request = first_request("GET", url, headers, None)
        for _ in range(redirects + 1):
            async with self._head(request, head_s) as response:
                location = response.headers.get("location")
                if response.status_code not in _REDIRECTS or location is None:
                    pieces = _pieces(response, request.url)
                    yield StreamedReply(response.status_code, response.headers, pieces)
                    return
            request = _following(request, response.status_code, location)
        raise faults.unavailable(request.url, "redirect")

    @asynccontextmanager
    async def _head(self, request: httpx.Request, head_s: float) -> AsyncIterator[httpx.Response]:
        try:
            async with asyncio.timeout(head_s):
                pinned = await self._names.addresses(request.url, PlainHttp.ANYWHERE)
                request.extensions = {"pinned": pinned}
                response = await self._transport.handle_async_request(request)
        except TimeoutError as error:
            raise faults.unavailable(request.url, "timeout") from error
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise faults.translate(error, request.url) from error
        assert isinstance(response.stream, httpx.AsyncByteStream)
        try:
            yield response
        finally:
            await response.stream.aclose()

    async def pinned(self, url: str) -> tuple[tuple[str, ...], int]:
        """Addresses and port behind `url`, for those who connect by other means than HTTP.

        Raises InvalidInput for a malformed URL, AddressRefused, Unreachable (kind dns).
        """
        parsed = first_request("GET", url, None, None).url
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
            trail.url = request.url
            response, body, is_truncated = await self._hop(request, limits, plain, on_head)
            location = response.headers.get("location")
            if response.status_code not in _REDIRECTS or location is None:
                break
            trail.last = response
            trail.redirects += 1
            if trail.redirects > limits.redirects:
                raise faults.unavailable(trail.url, "redirect")
            follower = _following(request, response.status_code, location)
            is_foreign = is_foreign or _leaves(request.url, follower.url)
            request = follower
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
            raise faults.translate(error, request.url) from error


async def _pieces(response: httpx.Response, url: httpx.URL) -> AsyncGenerator[bytes]:
    assert isinstance(response.stream, httpx.AsyncByteStream)
    try:
        async for piece in response.stream:
            yield piece
    except (httpx.HTTPError, httpx.StreamError) as error:
        raise faults.translate(error, url) from error


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


def _tell_redirect(error: AddressRefused | Unreachable, trail: _Trail) -> None:
    if trail.last is not None:
        error.facts.update(status=trail.last.status_code, reason=trail.last.reason_phrase)


# --- Which request comes first, and which one a redirect asks for

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key"})
_CONTENT_HEADERS = frozenset({"content-type", "content-length", "transfer-encoding"})
_ALWAYS = {"User-Agent": "modelyard", "Accept-Encoding": "identity"}


def first_request(
    method: str,
    url: str,
    headers: Mapping[str, str] | None,
    content: bytes | AsyncIterable[bytes] | None,
) -> httpx.Request:
    """Raises InvalidInput for what is no URL that we speak to, AddressRefused for odd hosts."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        _refuse_odd_host(url)
        # Not shown: it may hold credentials.
        raise InvalidInput("The URL is malformed.", field="url") from error
    why = _objection(parsed)
    if why is not None:
        raise InvalidInput(f"A URL for {parsed.host or 'nobody'} is wrong: {why}.", field="url")
    return httpx.Request(method, parsed, headers={**_ALWAYS, **(headers or {})}, content=content)


def _following(request: httpx.Request, status: int, location: str) -> httpx.Request:
    """What `location` asks for, without credentials when it leads to another origin.

    Raises Unreachable (kind redirect) when it cannot be followed, AddressRefused for odd
    hosts.
    """
    try:
        url = request.url.join(location)
    except httpx.InvalidURL as error:
        _refuse_odd_host(location)
        raise faults.unavailable(request.url, "redirect") from error
    if _objection(url) is not None:
        raise faults.unavailable(request.url, "redirect")
    method = _method(request.method, status)
    dropped = {"host"}
    content = b""
    if method == request.method:
        content = _content(request)
    else:
        dropped |= _CONTENT_HEADERS
    if _leaves(request.url, url):
        dropped |= _SECRET_HEADERS
    headers = [(k, v) for k, v in request.headers.multi_items() if k.lower() not in dropped]
    return httpx.Request(method, url, headers=headers, content=content)


def _leaves(one: httpx.URL, other: httpx.URL) -> bool:
    """Whether they differ in scheme, host or port."""
    return (one.scheme, one.raw_host, one.port) != (other.scheme, other.raw_host, other.port)


def _refuse_odd_host(url: str) -> None:
    """An address in an unusual spelling, which httpx takes for no URL at all."""
    try:
        host = urlsplit(url).hostname
    except ValueError:
        return
    addresses.literal(host or "")


def _objection(url: httpx.URL) -> str | None:
    if url.scheme not in ("http", "https"):
        return "only http and https are spoken"
    if not url.host:
        return "the host is missing"
    if b"%" in url.raw_host:
        return "the host holds characters that no host has"
    if url.userinfo:
        return "credentials do not belong into it"
    return None


def _method(method: str, status: int) -> str:
    is_changed = status == 303 or (status in (301, 302) and method == "POST")
    return "GET" if is_changed and method != "HEAD" else method


def _content(request: httpx.Request) -> bytes:
    # What was streamed out cannot be sent again.
    if not isinstance(request.stream, httpx.ByteStream):
        raise faults.unavailable(request.url, "redirect")
    return b"".join(request.stream)
