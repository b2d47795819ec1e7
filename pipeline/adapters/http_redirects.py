"""Which request comes first, and which one a redirect asks for."""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping
from typing import Final
from urllib.parse import urlsplit

import httpx

from pipeline.adapters import http_faults
from pipeline.errors import InvalidInput
from pipeline.rules import addresses

STATUSES: Final = frozenset({301, 302, 303, 307, 308})

_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key"})
_CONTENT_HEADERS = frozenset({"content-type", "content-length", "transfer-encoding"})
_ALWAYS = {"User-Agent": "modelyard", "Accept-Encoding": "identity"}


def first(
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


def following(request: httpx.Request, status: int, location: str) -> httpx.Request:
    """What `location` asks for, without credentials when it leads to another origin.

    Raises RegistryUnavailable (kind redirect) when it cannot be followed, AddressRefused for odd
    hosts.
    """
    try:
        url = request.url.join(location)
    except httpx.InvalidURL as error:
        _refuse_odd_host(location)
        raise http_faults.unavailable(request.url.host, "redirect") from error
    if _objection(url) is not None:
        raise http_faults.unavailable(request.url.host, "redirect")
    method = _method(request.method, status)
    dropped = {"host"}
    content = b""
    if method == request.method:
        content = _content(request)
    else:
        dropped |= _CONTENT_HEADERS
    if leaves(request.url, url):
        dropped |= _SECRET_HEADERS
    headers = [(k, v) for k, v in request.headers.multi_items() if k.lower() not in dropped]
    return httpx.Request(method, url, headers=headers, content=content)


def leaves(one: httpx.URL, other: httpx.URL) -> bool:
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
        raise http_faults.unavailable(request.url.host, "redirect")
    return b"".join(request.stream)
