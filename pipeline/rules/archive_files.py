"""The files of an image archive: what they are, and what their names promise."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from pipeline.errors import TarUnsafePath
from pipeline.rules import tar_paths
from pipeline.rules.compression import Compression

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
            path = tar_paths.inside(name)
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
