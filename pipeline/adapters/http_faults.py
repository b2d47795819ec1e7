"""The one place where faults of HTTP become errors of our tree."""

from __future__ import annotations

import ssl
from typing import Final, Literal

import httpx

from pipeline.errors import RegistryUnavailable

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

_SENTENCES: Final[dict[Kind, str]] = {
    "dns": "its name cannot be resolved",
    "refused": "it refuses the connection",
    "timeout": "it did not answer in time",
    "tls": "no secure connection could be made",
    "redirect": "it redirects where we do not follow",
    "protocol": "it does not answer as HTTP demands",
    "other": "the connection failed",
}


def unavailable(host: str, kind: Kind, **facts: object) -> RegistryUnavailable:
    """The error for a host that gave no usable answer. `facts["kind"]` says why."""
    return RegistryUnavailable(
        f"{host} cannot be reached: {_SENTENCES[kind]}.", kind=kind, host=host, **facts
    )


def translate(error: Exception, host: str) -> RegistryUnavailable:
    """`error` is any exception of httpx."""
    kind = kind_of(error)
    return unavailable(host, kind, has_bad_certificate=_has_bad_certificate(error))


def kind_of(error: Exception) -> Kind:
    for known, kind in _KINDS:
        if isinstance(error, known):
            return kind
    cause = error.__cause__
    if isinstance(cause, ssl.SSLError):
        return "tls"
    if isinstance(cause, ConnectionError):
        return "refused"
    return "other"


def _has_bad_certificate(error: Exception) -> bool:
    return isinstance(error.__cause__, ssl.SSLCertVerificationError)
