"""The files of an image archive: what they are, and what their names promise."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from pipeline.archives.compression import Compression
from pipeline.errors import NotATar, TarUnsafePath

LINKS_MAX: Final = 40
"""Followed for one path, as in Linux."""

_BLOB = re.compile(r"blobs/(sha256)/([0-9a-f]{64})")
_LAYER = re.compile(r"([0-9a-f]{64})\.tar")


@dataclass(frozen=True, slots=True)
class Stored:
    """One file of the archive: what it is, and what a layer made of it opens to."""

    digest: str
    size_bytes: int
    compression: Compression = Compression.NONE
    diff_id: str | None = None
    """Digest of the opened content; None when its compression is broken."""


@dataclass(slots=True)
class Files:
    """Everything that came, by normalised path."""

    stored: dict[str, Stored] = field(default_factory=dict)
    small: dict[str, bytes] = field(default_factory=dict)
    """Contents of the files that may be documents."""
    links: dict[str, str] = field(default_factory=dict)

    def find(self, name: str) -> str | None:
        """The path of the file that `name` means once links are followed; None without one."""
        try:
            path = inside(name)
        except TarUnsafePath:
            return None
        for _ in range(LINKS_MAX):
            if path in self.stored:
                return path
            followed = self._step(path)
            if followed is None:
                return None
            path = followed
        return None

    def document(self, name: str) -> bytes | None:
        path = self.find(name)
        return None if path is None else self.small.get(path)

    def _step(self, path: str) -> str | None:
        """The path behind the first link in `path`, which may be one of its folders."""
        end = 0
        while end != len(path):
            end = path.find("/", end + 1)
            end = len(path) if end < 0 else end
            if (target := self.links.get(path[:end])) is not None:
                return f"{target}{path[end:]}".lstrip("/")
        return None


def promised_digest(path: str) -> str | None:
    """The digest that a file must have because it is named so."""
    found = _BLOB.fullmatch(path)
    return f"{found[1]}:{found[2]}" if found else None


def likely_digest(path: str) -> str | None:
    """The digest that a file has when it is what its name says: worth asking the registry for."""
    found = _LAYER.fullmatch(path)
    return f"sha256:{found[1]}" if found else promised_digest(path)


# --- Names inside a TAR: normalised, and never outside of it


def inside(name: str) -> str:
    """The normalised path. Raises TarUnsafePath for an absolute one and for any `..`."""
    if name.startswith("/") or "\0" in name:
        raise TarUnsafePath(f"{shown(name)} is an absolute path: paths must be relative.")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise TarUnsafePath(f"{shown(name)} leaves the archive by '..'.")
    return "/".join(parts)


def target(link: str, *, of: str) -> str:
    """Where a link points: relative to the folder of `of` for a symbolic link (to the root when it
    is empty, as for a hard link). Raises TarUnsafePath when that is outside the archive.
    """
    if link.startswith("/") or "\0" in link or not link:
        raise TarUnsafePath(f"A link points to {shown(link)}, outside of the archive.")
    resolved = of.split("/")[:-1] if of else []
    for part in link.split("/"):
        if part in ("", "."):
            continue
        if part != "..":
            resolved.append(part)
        elif resolved:
            resolved.pop()
        else:
            raise TarUnsafePath(f"A link points to {shown(link)}, outside of the archive.")
    return "/".join(resolved)


def pax_records(data: bytes) -> Iterator[tuple[str, str]]:
    """`<length> <key>=<value>\\n`, as often as there are. Raises NotATar when malformed."""
    while data.strip(b"\0"):
        length, found, _ = data.partition(b" ")
        if not found or not length.isdigit() or len(length) > 8:
            raise NotATar("The archive has a broken PAX header.")
        end = int(length)
        record = data[len(length) + 1 : end]
        key, equals, value = record.partition(b"=")
        if end > len(data) or not equals or not value.endswith(b"\n"):
            raise NotATar("The archive has a broken PAX header.")
        yield decode(key), decode(value[:-1])
        data = data[end:]


def pax_size(text: str) -> int:
    """Raises NotATar for anything but digits."""
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise NotATar("The archive has a broken size in a PAX header.")
    return int(text)


def decode(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def shown(name: str) -> str:
    """For a message: short, printable, without lone surrogates."""
    text = name.encode("utf-8", "replace").decode("utf-8", "replace")
    return repr(text if len(text) <= 120 else text[:117] + "...")
