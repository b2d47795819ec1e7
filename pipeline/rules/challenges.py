"""What `WWW-Authenticate` asks for (RFC 9110 §11.6.1, distribution token specification)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf"({_TOKEN})[ \t]*=[ \t]*(?:\"((?:[^\"\\]|\\.)*)\"|({_TOKEN}))")
_SCHEME = re.compile(rf"({_TOKEN})(?:[ \t]+|$|(?=,))")
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*[ \t]*(?=,|$)")
_GAP = re.compile(r"[ \t,]*")
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Bearer:
    """Get a token from `realm`, for `service`."""

    realm: str
    service: str | None
    scope: str | None


@dataclass(frozen=True, slots=True)
class Basic:
    """Send user name and password."""


def choose(headers: Iterable[str]) -> Bearer | Basic | None:
    """The best way that the server offers: Bearer, then Basic. None when it offers neither."""
    offered = [challenge for header in headers for challenge in _read(header)]
    for scheme, parameters in offered:
        if scheme == "bearer" and parameters.get("realm"):
            return Bearer(parameters["realm"], parameters.get("service"), parameters.get("scope"))
    return Basic() if any(scheme == "basic" for scheme, _ in offered) else None


def _read(header: str) -> Iterator[tuple[str, Mapping[str, str]]]:
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
