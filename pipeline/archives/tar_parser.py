"""A TAR read as it arrives: bytes in, entries out, nothing kept but what is needed to go on.

Knows ustar, GNU long names and PAX (POSIX.1-2017 pax, "ustar Interchange Format"). Archives come
from strangers: what no image archive holds is refused, not skipped.
"""

from __future__ import annotations

import tarfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from pipeline.archives import files
from pipeline.errors import (
    ArchiveBomb,
    NotATar,
    TarDuplicateEntry,
    TarTruncated,
    TarUnsafeEntry,
    TarUnsafePath,
)

BLOCK: Final = 512
MOST_ENTRIES: Final = 50_000
MOST_HEADER_BYTES: Final = 64 * 1024
"""Of one PAX header or long name."""
MOST_PATH_BYTES: Final = 4096
MOST_PATHS_BYTES: Final = 8 * 1024 * 1024
"""Of all paths and targets together: they are kept to find what comes twice."""

TRUNCATED: Final = "The archive ends early: send it again, whole."

_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_HEADERS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_FACTS = frozenset({"path", "linkpath", "size"})
_SPARSE = "GNU.sparse"
_LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


class Kind(Enum):
    FILE = "file"
    FOLDER = "folder"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class Entry:
    """`path` is normalised and inside the archive, and so is a link's `target`."""

    path: str
    kind: Kind
    size: int = 0
    target: str | None = None


@dataclass(frozen=True, slots=True)
class Data:
    """A piece of the file that began last; a view of the chunk that was fed."""

    bytes: memoryview


class FileEnd(Enum):
    END = "end"


Event = Entry | Data | FileEnd


class TarParser:
    """Feed it chunks of any size; every entry, and of a file its data and its end, comes out.

    Raises the ImageRejected family. After a refusal it must not be fed again.
    """

    def __init__(self) -> None:
        self._pending = bytearray()
        """Of a header block, or of the data of an extension header."""
        self._left = 0
        """Bytes of file data still to come."""
        self._padding = 0
        self._extension: tuple[bytes, int] | None = None
        """Type and size of the extension header that is being collected."""
        self._overrides: dict[str, str] = {}
        self._global: dict[str, str] = {}
        self._paths: set[str] = set()
        self._path_bytes = 0
        self._entries = 0
        self._over = False

    def feed(self, chunk: bytes | memoryview) -> Iterator[Event]:
        """What `chunk` completes. Consume it wholly before feeding more."""
        view = memoryview(chunk)
        while view and not self._over:
            if self._left:
                piece, view = view[: self._left], view[self._left :]
                self._left -= len(piece)
                yield Data(piece)
                if not self._left:
                    yield FileEnd.END
            elif self._padding:
                skipped = min(self._padding, len(view))
                view = view[skipped:]
                self._padding -= skipped
            else:
                view = yield from self._collect(view)

    def close(self) -> None:
        """The input is over. Raises NotATar when it was empty, TarTruncated when it broke off.

        The blocks of zeros at the end, and the padding of the last entry, may be missing: some
        writers leave them out. Then nothing tells that no entry is missing (`has_end`).
        """
        if self._over:
            return
        if not self._entries and not self._extension:
            raise NotATar("The upload is not a TAR archive: make one with docker save.")
        if self._left or self._extension or self._overrides or any(self._pending):
            raise TarTruncated(TRUNCATED)

    @property
    def has_end(self) -> bool:
        """It said itself that it is over."""
        return self._over

    def _collect(self, view: memoryview) -> Generator[Event, None, memoryview]:
        wanted = self._extension[1] if self._extension else BLOCK
        missing = wanted - len(self._pending)
        self._pending += view[:missing]
        if len(self._pending) == wanted:
            block = bytes(self._pending)
            self._pending.clear()
            if self._extension:
                self._extend(block)
            else:
                yield from self._header(block)
        return view[missing:]

    def _header(self, block: bytes) -> Iterator[Event]:
        if not any(block):
            self._end()
            return
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError, OverflowError):
            raise self._malformed() from None
        if info.size < 0:
            raise self._malformed()
        self._count()
        if info.type in _HEADERS or info.type in _LONG:
            self._begin_extension(info)
        else:
            yield from self._entry(info)

    def _end(self) -> None:
        if not self._entries:
            raise NotATar("The archive is empty.")
        self._over = True

    def _malformed(self) -> NotATar:
        where = "is not a TAR archive" if not self._entries else "has a broken entry header"
        return NotATar(f"The upload {where}.")

    def _count(self) -> None:
        self._entries += 1
        if self._entries > MOST_ENTRIES:
            raise ArchiveBomb(f"The archive has more than {MOST_ENTRIES} entries.")

    def _begin_extension(self, info: tarfile.TarInfo) -> None:
        if info.size > MOST_HEADER_BYTES:
            raise ArchiveBomb("An extension header is larger than any name needs.")
        if info.size == 0:
            return
        self._extension = (info.type, info.size)

    def _extend(self, data: bytes) -> None:
        assert self._extension is not None
        kind, size = self._extension
        self._extension = None
        self._padding = -size % BLOCK
        if kind == tarfile.GNUTYPE_LONGNAME:
            self._overrides["path"] = files.decode(data.rstrip(b"\0"))
        elif kind == tarfile.GNUTYPE_LONGLINK:
            self._overrides["linkpath"] = files.decode(data.rstrip(b"\0"))
        else:
            into = self._global if kind == tarfile.XGLTYPE else self._overrides
            into.update(_of_interest(files.pax_records(data)))

    def _entry(self, info: tarfile.TarInfo) -> Iterator[Event]:
        facts = self._global | self._overrides
        self._overrides = {}
        if _SPARSE in facts:
            raise TarUnsafeEntry("The archive holds a sparse file, which no image archive does.")
        name = facts.get("path", info.name)
        link = facts.get("linkpath", info.linkname)
        size = files.pax_size(facts["size"]) if "size" in facts else info.size
        self._weigh(name, link)
        path = files.inside(name)
        if info.type in _FILES:
            yield from self._file(path, size)
        elif info.type == tarfile.DIRTYPE:
            self._skip(size)
            yield Entry(path, Kind.FOLDER)
        elif info.type in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            self._skip(size)
            self._claim(path)
            within = path if info.type == tarfile.SYMTYPE else ""
            yield Entry(path, Kind.LINK, target=files.target(link, of=within))
        else:
            raise TarUnsafeEntry(
                f"{files.shown(name)} is a device, a FIFO or of an unknown kind: an image"
                " archive holds only files, folders and links."
            )

    def _weigh(self, name: str, link: str) -> None:
        self._path_bytes += len(name) + len(link)
        if len(name) > MOST_PATH_BYTES or len(link) > MOST_PATH_BYTES:
            raise TarUnsafePath(f"{files.shown(name)} has a longer path than any image needs.")
        if self._path_bytes > MOST_PATHS_BYTES:
            raise ArchiveBomb("The archive holds more names than any image needs.")

    def _file(self, path: str, size: int) -> Iterator[Event]:
        if not path:
            raise TarUnsafePath("The archive holds a file without a name.")
        self._claim(path)
        self._left = size
        self._padding = -size % BLOCK
        yield Entry(path, Kind.FILE, size)
        if not size:
            yield FileEnd.END

    def _skip(self, size: int) -> None:
        # Folders and links have no data, whatever some writers put into the field.
        if size:
            raise TarUnsafeEntry("A folder or link claims to have data.")

    def _claim(self, path: str) -> None:
        if path in self._paths:
            raise TarDuplicateEntry(f"{files.shown(path)} is in the archive twice.")
        self._paths.add(path)


def _of_interest(records: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """What decides how an entry is read; nobody knows how many other keys there are."""
    for key, value in records:
        if key in _FACTS:
            yield key, value
        elif key.startswith(_SPARSE):
            yield _SPARSE, value
