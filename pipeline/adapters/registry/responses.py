"""What registries answer, as far as all requests read it: status, challenges, pages. Pure."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urljoin, urlsplit

from pipeline.errors import (
    ManifestNotFound,
    RegistryDenied,
    RegistryError,
    RegistryProtocolError,
    RegistryUnavailable,
    Unreachable,
)

RETRY_AFTER_MAX_S: Final = 3600

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf"({_TOKEN})[ \t]*=[ \t]*(?:\"((?:[^\"\\]|\\.)*)\"|({_TOKEN}))")
_SCHEME = re.compile(rf"({_TOKEN})(?:[ \t]+|$|(?=,))")
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*[ \t]*(?=,|$)")
_GAP = re.compile(r"[ \t,]*")
_ESCAPED = re.compile(r"\\(.)")
_LINK = re.compile(r"<([^<>]*)>((?:\s*;\s*[\w*]+\s*=\s*(?:\"[^\"]*\"|[^\s\",;]+))*)")
_NEXT = re.compile(r";\s*rel\s*=\s*(?:\"(?:[^\"]*\s)?next(?:\s[^\"]*)?\"|next\b)", re.IGNORECASE)


def refusal(
    status: int, headers: Mapping[str, str], *, registry: str, wanted: str
) -> RegistryError:
    """The error for an answer that does not bring `wanted`. Header names are in lower case."""
    if status in (401, 403):
        # Registries that hide private repositories answer the same for absent ones.
        return RegistryDenied(
            f"{registry} denied access to {wanted}: it may be private or absent; check the"
            " reference and the credentials.",
            registry=registry,
        )
    if status == 404:
        return ManifestNotFound(
            f"{registry} has no {wanted}: check the reference.", registry=registry
        )
    if status == 429:
        return RegistryUnavailable(
            f"{registry} asks for fewer requests: it is asked again later.",
            kind="other",
            registry=registry,
            retry_after_s=retry_after_s(headers),
        )
    if status >= 500:
        return RegistryUnavailable(
            f"{registry} answered {status} when asked for {wanted}.",
            kind="other",
            registry=registry,
            retry_after_s=retry_after_s(headers),
        )
    return RegistryProtocolError(
        f"{registry} answered {status} when asked for {wanted}, which no registry does: check"
        " that it is an OCI registry.",
        registry=registry,
    )


@contextmanager
def no_answer() -> Iterator[None]:
    """A registry that the HTTP client cannot reach is unavailable. The facts stay."""
    try:
        yield
    except Unreachable as error:
        raise unavailable(error) from error


def unavailable(error: Unreachable) -> RegistryUnavailable:
    return RegistryUnavailable(error.message, **error.facts)


def retry_after_s(headers: Mapping[str, str]) -> int | None:
    """Seconds of `Retry-After`, at most an hour. A date counts from the answer's own `Date`."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdecimal():
        return min(int(text[:9]), RETRY_AFTER_MAX_S)
    try:
        wait = parsedate_to_datetime(text) - parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, TypeError):
        return None
    return min(max(0, int(wait.total_seconds())), RETRY_AFTER_MAX_S)


def uncompressed(headers: Mapping[str, str], body: bytes, most: int, *, registry: str) -> bytes:
    """A whole body without the gzip that some put on although nobody asked for it.

    At most one byte more than `most`. Raises RegistryProtocolError when that is broken, and for
    another compression: no registry is known to send any.
    """
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding in ("", "identity") or not body:
        return body
    if encoding not in ("gzip", "x-gzip"):
        raise _compressed(registry, f"Content-Encoding {encoding[:50]}")
    opener = zlib.decompressobj(wbits=31)
    try:
        opened = opener.decompress(body, most + 1)
    except zlib.error:
        raise _compressed(registry, "broken gzip") from None
    if not opener.eof and len(opened) <= most:
        raise _compressed(registry, "gzip that ends early")
    return opened


def _compressed(registry: str, what: str) -> RegistryProtocolError:
    return RegistryProtocolError(
        f"{registry} answers with {what}, although it was asked for no compression: switch that"
        " off there.",
        registry=registry,
    )


# --- WWW-Authenticate (RFC 9110 §11.6.1, distribution token specification)


@dataclass(frozen=True, slots=True)
class Bearer:
    """Get a token from `realm`, for `service`."""

    realm: str
    service: str | None
    scope: str | None


@dataclass(frozen=True, slots=True)
class Basic:
    """Send user name and password."""


def choose_challenge(headers: Iterable[str]) -> Bearer | Basic | None:
    """The best way that the server offers: Bearer, then Basic. None when it offers neither."""
    offered = [challenge for header in headers for challenge in _challenges(header)]
    for scheme, parameters in offered:
        if scheme == "bearer" and parameters.get("realm"):
            return Bearer(parameters["realm"], parameters.get("service"), parameters.get("scope"))
    return Basic() if any(scheme == "basic" for scheme, _ in offered) else None


def _challenges(header: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Schemes in lower case, each with its parameters. Stops at what it cannot read."""
    at = _skip(_GAP, header, 0)
    while scheme := _SCHEME.match(header, at):
        parameters, at = _parameters(header, _skip(_TOKEN68, header, scheme.end()))
        yield scheme[1].lower(), parameters


def _parameters(header: str, at: int) -> tuple[dict[str, str], int]:
    found: dict[str, str] = {}
    while True:
        at = _skip(_GAP, header, at)
        parameter = _PARAMETER.match(header, at)
        if parameter is None:
            return found, at
        name, quoted, plain = parameter.groups()
        found.setdefault(name.lower(), plain or _ESCAPED.sub(r"\1", quoted or ""))
        at = parameter.end()


def _skip(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


# --- Link (RFC 8288), as far as paging needs it


def next_path(header: str, url: str) -> str | None:
    """Path and query of the next page after `url`, or None on the last one.

    Raises ValueError when the next page is on another origin: nobody is sent there.
    """
    for target, parameters in _LINK.findall(header):
        if _NEXT.search(parameters):
            return _same_origin(urljoin(url, target), url)
    return None


def _same_origin(target: str, url: str) -> str:
    there, here = urlsplit(target), urlsplit(url)
    if (there.scheme, there.netloc) != (here.scheme, here.netloc) or not there.path:
        raise ValueError("The next page is on another host.")
    return there.path + (f"?{there.query}" if there.query else "")
