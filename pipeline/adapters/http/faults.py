"""The one place where faults of HTTP become errors of our tree."""

from __future__ import annotations

import socket
import ssl
from typing import Final, Literal

import httpx

from pipeline.errors import Unreachable

Kind = Literal["dns", "refused", "timeout", "tls", "redirect", "blocked", "protocol", "other"]

_KINDS: Final[tuple[tuple[type[Exception], Kind], ...]] = (
    (httpx.TimeoutException, "timeout"),
    (httpx.ProtocolError, "protocol"),
    (httpx.DecodingError, "protocol"),
    (httpx.UnsupportedProtocol, "protocol"),
    (httpx.InvalidURL, "protocol"),
    (httpx.TooManyRedirects, "redirect"),
)
"""Everything else of httpx is `other`, except failed connections, which their cause explains."""

_PORTS: Final = {"http": 80, "https": 443}

_SENTENCES: Final[dict[Kind, str]] = {
    "dns": "its name cannot be resolved",
    "refused": "it refuses the connection",
    "timeout": "it did not answer in time",
    "tls": "no secure connection could be made",
    "redirect": "it redirects where we do not follow",
    "protocol": "it does not answer as HTTP demands",
    "other": "the connection failed",
}


def unavailable(where: httpx.URL | str, kind: Kind, **facts: object) -> Unreachable:
    """The error for what gave no usable answer at a URL, or at `host[:port]`.

    `facts["kind"]` says why. The port of a URL is named also where its scheme implies it.
    """
    place = where if isinstance(where, str) else _host_and_port(where)
    return Unreachable(
        f"{place} cannot be reached: {_SENTENCES[kind]}.", kind=kind, host=place, **facts
    )


def translate(error: Exception, where: httpx.URL | str) -> Unreachable:
    """`error` is any exception of httpx."""
    return unavailable(where, kind_of(error), has_bad_certificate=distrusts(error))


def place_of(registry: str, scheme: str = "https") -> str:
    """`host:port` of a registry: that of the scheme where none is written."""
    return _host_and_port(httpx.URL(f"{scheme}://{registry}"))


def _host_and_port(url: httpx.URL) -> str:
    host, port = url.netloc.decode("ascii"), _PORTS.get(url.scheme)
    return host if url.port is not None or port is None else f"{host}:{port}"


def kind_of(error: Exception) -> Kind:
    for known, kind in _KINDS:
        if isinstance(error, known):
            return kind
    cause = error.__cause__
    if isinstance(cause, ssl.SSLError):
        return "tls"
    if isinstance(cause, socket.gaierror):
        return "dns"
    if isinstance(cause, ConnectionError):
        return "refused"
    return "other"


def distrusts(error: Exception) -> bool:
    """The peer speaks TLS, with a certificate that proves nothing."""
    return isinstance(error.__cause__, ssl.SSLCertVerificationError)
