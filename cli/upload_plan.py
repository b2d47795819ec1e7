"""What of an image archive has to be sent: everything but the layers that are there already."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from pipeline.archives.files import Files, Stored, inside, promised_digest, target
from pipeline.errors import TarUnsafePath

DECLARATION: Final = "modelyard-present.json"
WORTH_BYTES: Final = 64 * 1024
"""Smaller files are sent: asking for them takes as long."""
READ_BYTES: Final = 1024 * 1024
_END: Final = bytes(2 * tarfile.BLOCKSIZE)

_NO_ARCHIVE: Final = (
    *(tarfile.TarError, TarUnsafePath, EOFError, RecursionError),
    # Documents of another shape than they should have.
    *(ValueError, TypeError, KeyError, AttributeError),
)

Present = Callable[[list[str]], set[str]]
"""Which of these digests the server has."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes to send: given ones, or a range of the file."""

    start: int
    size: int
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Pieces in order. The same file and the same present layers make the same plan."""

    pieces: tuple[Piece, ...]
    skipped_bytes: int

    @property
    def length(self) -> int:
        return sum(piece.size for piece in self.pieces)

    @property
    def fingerprint(self) -> str:
        """Tells whether an upload that was begun can be continued with this plan."""
        parts = [(piece.start, piece.size, (piece.content or b"").hex()) for piece in self.pieces]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def read(self, file: BinaryIO, offset: int) -> Iterator[bytes]:
        """What is to be sent, from `offset` of it on."""
        for piece in self.pieces:
            if offset >= piece.size:
                offset -= piece.size
                continue
            if piece.content is not None:
                yield piece.content[offset:]
            else:
                yield from _range(file, piece.start + offset, piece.size - offset)
            offset = 0


def plan(file: BinaryIO, present: Present) -> Plan:
    """Raises OSError. What is no plain TAR of a known layout is sent as it is."""
    size = os.fstat(file.fileno()).st_size
    everything = Plan((Piece(0, size),), 0)
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            members = tar.getmembers()
            digests = _digests(tar, members)
    except _NO_ARCHIVE:
        return everything
    if not digests:
        return everything
    there = present(sorted(set(digests.values())))
    left_out = {name: digest for name, digest in digests.items() if digest in there}
    return _without(members, left_out, size) if left_out else everything


def _digests(tar: tarfile.TarFile, members: Sequence[tarfile.TarInfo]) -> dict[str, str]:
    """The digest of what a registry holds for each large file, by the file's name."""
    found = {
        member.name: digest
        for member in members
        if member.isreg()
        and member.size >= WORTH_BYTES
        and (digest := promised_digest(inside(member.name)))
    }
    for name, diff_id in _layers(tar, members):
        found.setdefault(name, diff_id)
    return found


def _layers(tar: tarfile.TarFile, members: Sequence[tarfile.TarInfo]) -> Iterator[tuple[str, str]]:
    """Layers of the old layout are kept under the digest that the configuration lists."""
    files = Files(stored={inside(one.name): Stored("", one.size) for one in members if one.isreg()})
    files.links = {
        inside(one.name): target(one.linkname, of=one.name if one.issym() else "")
        for one in members
        if one.issym() or one.islnk()
    }
    by_path = {inside(one.name): one for one in members if one.isreg()}
    for image in _document(tar, by_path, files, "manifest.json") or []:
        config = _document(tar, by_path, files, image["Config"]) or {}
        diff_ids = config.get("rootfs", {}).get("diff_ids") or []
        for layer, diff_id in zip(image.get("Layers") or [], diff_ids, strict=False):
            path = files.find(layer)
            if path is not None and by_path[path].size >= WORTH_BYTES:
                yield by_path[path].name, str(diff_id)


def _document(
    tar: tarfile.TarFile, by_path: dict[str, tarfile.TarInfo], files: Files, name: str
) -> Any:
    path = files.find(name)
    content = tar.extractfile(by_path[path]) if path is not None else None
    return json.load(content) if content is not None else None


def _without(members: Sequence[tarfile.TarInfo], left_out: dict[str, str], size: int) -> Plan:
    declared = {inside(name): digest for name, digest in sorted(left_out.items())}
    head = _entry(DECLARATION, json.dumps(declared).encode())
    pieces = [Piece(0, len(head), head)]
    skipped = 0
    for member, end in _regions(members):
        if member.name in left_out and member.isreg():
            skipped += end - member.offset
        elif pieces[-1].content is None and pieces[-1].start + pieces[-1].size == member.offset:
            pieces[-1] = Piece(pieces[-1].start, end - pieces[-1].start)
        else:
            pieces.append(Piece(member.offset, end - member.offset))
    return Plan((*pieces, Piece(size, len(_END), _END)), skipped)


def _regions(members: Iterable[tarfile.TarInfo]) -> Iterator[tuple[tarfile.TarInfo, int]]:
    """Each member, its extension headers included, and where it ends."""
    for member in members:
        blocks = -(-member.size // tarfile.BLOCKSIZE) if member.isreg() else 0
        yield member, member.offset_data + blocks * tarfile.BLOCKSIZE


def _entry(name: str, content: bytes) -> bytes:
    made = io.BytesIO()
    info = tarfile.TarInfo(name)
    info.size = len(content)
    with tarfile.open(fileobj=made, mode="w") as tar:
        tar.addfile(info, io.BytesIO(content))
    return made.getvalue()[: tarfile.BLOCKSIZE * (1 + -(-len(content) // tarfile.BLOCKSIZE))]


def _range(file: BinaryIO, start: int, size: int) -> Iterator[bytes]:
    file.seek(start)
    while size > 0 and (chunk := file.read(min(READ_BYTES, size))):
        size -= len(chunk)
        yield chunk
