"""Image references: parsed once, strictly, into a value.

The grammar is that of the OCI distribution specification 1.1 and of Docker's short forms.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import asdict, dataclass
from typing import Final

from pipeline.errors import InvalidReference

DOCKER_HUB: Final = "registry-1.docker.io"
DOCKER_HUB_NAMES: Final = frozenset(
    {"docker.io", "index.docker.io", "registry.hub.docker.com", DOCKER_HUB}
)
DEFAULT_TAG: Final = "latest"
REFERENCE_MAX: Final = 512
NAME_MAX: Final = 255
"""Of host and repository together, as in the reference implementation."""

_HOST = re.compile(
    r"(?P<name>(?:[a-z0-9]|[a-z0-9][a-z0-9-]*[a-z0-9])(?:\.(?:[a-z0-9]|[a-z0-9][a-z0-9-]*[a-z0-9]))*"
    r"|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
)
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_MANIFEST_URL = re.compile(
    r"https://(?P<host>[^/]+)/v2/(?P<repository>.+)/manifests/(?P<last>[^/]+)"
)


@dataclass(frozen=True, slots=True)
class Reference:
    """Where an image lies. A tag, a digest, or both; with both, the digest decides."""

    registry: str
    """`host[:port]` in lower case; Docker Hub is `registry-1.docker.io`."""
    repository: str
    """Whole path, with `library/` for the official images of Docker Hub."""
    tag: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"

    @property
    def prefix(self) -> str:
        """Everything before the last segment of the repository: `models/location`, or ``."""
        return self.repository.rpartition("/")[0]

    @property
    def namespace(self) -> str:
        """The first segment of a repository that has several: `models`, or ``."""
        return self.prefix.partition("/")[0]

    @property
    def name(self) -> str:
        """The last segment of the repository."""
        return self.repository.rpartition("/")[2]

    def asdict(self) -> dict[str, str | None]:
        """The fields of `schemas.image.ReferenceParts`."""
        return asdict(self)


def parse(text: str) -> Reference:
    """Read a pull reference or `https://<host>/v2/<repository>/manifests/<tag or digest>`.

    Without tag and digest the tag is `latest`. Raises InvalidReference.
    """
    if not text or len(text) > REFERENCE_MAX:
        raise InvalidReference(
            f"An image reference has 1 to {REFERENCE_MAX} characters, not {len(text)}."
        )
    parsed = _parse_url(text) if "://" in text else _parse_pull(text)
    if len(parsed.registry) + 1 + len(parsed.repository) > NAME_MAX:
        raise _invalid(text, f"host and repository together exceed {NAME_MAX} characters")
    return parsed


def require_digest(text: str) -> str:
    """`text`, when it is a digest that can be verified. Raises InvalidReference."""
    if not _DIGEST.fullmatch(text):
        raise _invalid(
            text, "a digest is sha256: and 64, or sha512: and 128, lower-case hex digits"
        )
    return text


def is_repository(text: str) -> bool:
    return len(text) <= NAME_MAX and _REPOSITORY.fullmatch(text) is not None


def registry_host(text: str) -> str:
    """`host[:port]` as references hold it, so that two spellings compare equal.

    Raises InvalidReference.
    """
    host = text.lower()
    found = _HOST.fullmatch(host)
    if not found or not _is_port(found["port"]) or not _is_bracketed_right(found["name"]):
        raise _invalid(text, "the registry must be host or host:port, without scheme or path")
    return DOCKER_HUB if host in DOCKER_HUB_NAMES else host


def _parse_url(text: str) -> Reference:
    found = _MANIFEST_URL.fullmatch(text)
    if not found:
        raise _invalid(
            text, "leave the scheme off, or write https://<host>/v2/<repository>/manifests/<tag>"
        )
    last = found["last"]
    is_digest = ":" in last
    return _build(
        text,
        registry_host(found["host"]),
        found["repository"],
        tag=None if is_digest else last,
        digest=last if is_digest else None,
    )


def _parse_pull(text: str) -> Reference:
    name, at, digest = text.partition("@")
    head, slash, rest = name.partition("/")
    if slash and _is_host(head):
        host, path = registry_host(head), rest
    else:
        host, path = DOCKER_HUB, name
    repository, colon, tag = path.partition(":")
    return _build(text, host, repository, tag=tag if colon else None, digest=digest if at else None)


def _is_host(segment: str) -> bool:
    return segment == "localhost" or any(c in segment for c in ".:[")


def _build(
    text: str, registry: str, repository: str, *, tag: str | None, digest: str | None
) -> Reference:
    if not _REPOSITORY.fullmatch(repository):
        raise _invalid(
            text,
            "the repository must be lower-case letters and digits, separated by"
            " '.', '_', '__' or '-' and grouped by '/'",
        )
    if tag is not None and not _TAG.fullmatch(tag):
        raise _invalid(
            text,
            "a tag is up to 128 letters, digits, '_', '.' or '-', not starting with '.' or '-'",
        )
    if digest is not None:
        require_digest(digest)
    if registry == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    if tag is None and digest is None:
        tag = DEFAULT_TAG
    return Reference(registry, repository, tag, digest)


def _is_port(text: str | None) -> bool:
    return text is None or 1 <= int(text) <= 65535


def _is_bracketed_right(name: str) -> bool:
    if not name.startswith("["):
        return True
    try:
        ipaddress.IPv6Address(name[1:-1])
    except ValueError:
        return False
    return True


def _invalid(text: str, why: str) -> InvalidReference:
    shown = text if len(text) <= 100 else text[:100] + "…"
    return InvalidReference(f"{shown!r} is not an image reference: {why}.")
