"""Reproducible TAR files in memory."""

from __future__ import annotations

import io
import tarfile


class Tar:
    """A tar whose bytes depend on nothing but what is put in; read `content` after the block."""

    def __init__(self) -> None:
        self._file = io.BytesIO()
        self._tar = tarfile.TarFile(fileobj=self._file, mode="w", format=tarfile.PAX_FORMAT)

    def __enter__(self) -> Tar:
        return self

    def __exit__(self, *_: object) -> None:
        self._tar.close()

    @property
    def content(self) -> bytes:
        return self._file.getvalue()

    def add(self, name: str, content: bytes, mode: int = 0o644) -> None:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(content), mode
        self._tar.addfile(entry, io.BytesIO(content))

    def link(self, name: str, target: str) -> None:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = tarfile.SYMTYPE, target
        self._tar.addfile(entry)

    def special(self, name: str, kind: bytes) -> None:
        """A device, a FIFO or whatever `tarfile` has a type for."""
        entry = tarfile.TarInfo(name)
        entry.type = kind
        self._tar.addfile(entry)
