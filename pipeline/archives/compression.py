"""Compressed streams, opened step by step: no step gives more than `STEP` bytes.

What is compressed is told by its first bytes, never by a name.
"""

from __future__ import annotations

import bz2
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Final, Protocol

from pipeline.errors import ArchiveBomb, TarTruncated

STEP: Final = 1024 * 1024
SLICE: Final = 16 * 1024
"""A stream may begin anew every few bytes, and what follows a beginning is copied."""
SNIFFED: Final = 4
"""How many first bytes `sniff` needs."""
ARCHIVE_SNIFFED: Final = 10
"""How many `sniff_archive` does."""
XZ_MEMORY_MAX: Final = 80 * 1024 * 1024
"""What `xz -9` asks for, and a little."""
WINDOW_MAX: Final = 32 * 1024 * 1024
"""Of zstd: what the encoders of image builders use at most."""

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = (b"\x2a\x4d\x18", 0x50)
_XZ = b"\xfd7zXZ\x00"
_BZIP2 = re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)")
"""The second one is an empty stream."""


class Compression(Enum):
    NONE = ""
    GZIP = "gzip"
    ZSTD = "zstd"
    XZ = "xz"
    """Of whole archives only, as the next one: no registry has a name for layers of these."""
    BZIP2 = "bzip2"


class Opener(Protocol):
    """Raises TarTruncated when the content is broken, also when it ends too early."""

    def feed(self, chunk: bytes | memoryview) -> Iterator[bytes]:
        """What `chunk` opens to. Consume it wholly before feeding more."""
        ...

    def close(self) -> None:
        """The input is over."""
        ...


def sniff(head: bytes) -> Compression:
    """What a content that begins with `head` is compressed with."""
    if head.startswith(_GZIP):
        return Compression.GZIP
    middle, first = _SKIPPABLE
    is_skippable = len(head) > 3 and head[1:4] == middle and head[0] & 0xF0 == first
    return Compression.ZSTD if head.startswith(_ZSTD) or is_skippable else Compression.NONE


def sniff_archive(head: bytes) -> Compression:
    """As `sniff`, of a whole archive."""
    if head.startswith(_XZ):
        return Compression.XZ
    return Compression.BZIP2 if _BZIP2.match(head) else sniff(head)


def opener(compression: Compression, *, window_max: int = WINDOW_MAX) -> Opener | None:
    """None for what is not compressed."""
    match compression:
        case Compression.GZIP:
            return Gunzip()
        case Compression.ZSTD:
            return Streams("zstd", _zstd(window_max))
        case Compression.XZ:
            return Streams("xz", _xz, are_padded=True)
        case Compression.BZIP2:
            return Streams("bzip2", bz2.BZ2Decompressor)
        case Compression.NONE:
            return None


class Gunzip:
    """RFC 1952: members one after another, and zeros after the last one."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)

    def feed(self, chunk: bytes | memoryview) -> Iterator[bytes]:
        for piece in _slices(chunk):
            yield from self._feed(piece)

    def close(self) -> None:
        if not self._member.eof:
            raise _broken("gzip")

    def _feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._member.eof:
                data = self._next_member(data)
                continue
            try:
                opened = self._member.decompress(data, STEP)
            except zlib.error:
                raise _broken("gzip") from None
            data = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            if opened:
                yield opened

    def _next_member(self, data: bytes) -> bytes:
        data = data.lstrip(b"\0")
        if data:
            self._member = zlib.decompressobj(wbits=31)
        return data


class Decompressor(Protocol):
    """Of one stream, as the standard library has it for LZMA and bzip2."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class Streams:
    """Streams one after another: frames of RFC 8878, of xz with zeros between them, of bzip2."""

    def __init__(
        self, what: str, begin: Callable[[], Decompressor], *, are_padded: bool = False
    ) -> None:
        self._what = what
        self._begin = begin
        self._are_padded = are_padded
        self._stream: Decompressor | None = None
        """None between streams."""

    def feed(self, chunk: bytes | memoryview) -> Iterator[bytes]:
        for piece in _slices(chunk):
            yield from self._feed(piece)

    def close(self) -> None:
        if self._stream is not None:
            raise _broken(self._what)

    def _feed(self, data: bytes) -> Iterator[bytes]:
        while data or (self._stream and not self._stream.needs_input):
            if self._stream is None and self._are_padded:
                data = data.lstrip(b"\0")
                if not data:
                    return
            stream = self._stream = self._stream or self._begin()
            opened = self._opened(stream, data)
            data = stream.unused_data
            if stream.eof:
                self._stream = None
            if opened:
                yield opened

    def _opened(self, stream: Decompressor, data: bytes) -> bytes:
        # Only processes that open archives pay for it.
        from backports import zstd

        try:
            return stream.decompress(data, STEP)
        except (zstd.ZstdError, lzma.LZMAError, OSError) as error:
            if isinstance(error, lzma.LZMAError) and "emory" in str(error):
                raise ArchiveBomb(
                    "Opening the xz compression takes too much memory: use xz -9 or a lower level."
                ) from None
            raise _broken(self._what) from None


def _zstd(window_max: int) -> Callable[[], Decompressor]:
    from backports import zstd

    most = int(zstd.DecompressionParameter.window_log_max)
    options = {most: window_max.bit_length() - 1}
    return lambda: zstd.ZstdDecompressor(options=options)


def _xz() -> Decompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY_MAX)


def _slices(chunk: bytes | memoryview) -> Iterator[bytes]:
    view = memoryview(chunk)
    for at in range(0, len(view), SLICE):
        yield bytes(view[at : at + SLICE])


def _broken(what: str) -> TarTruncated:
    return TarTruncated(f"The {what} compression is broken or ends early: send it again, whole.")


# --- How far an archive may grow while it is opened

RATIO_MAX: Final = 100
RATIO_FROM_BYTES: Final = 256 * 1024 * 1024
"""Below this many opened bytes any ratio is fine: zeros compress well."""


class Expansion:
    """Counts what came in and what it opened to. Raises ArchiveBomb.

    Layers count opened, whether it was the archive that was compressed or they themselves.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.received = 0
        self.opened = 0

    def arrived(self, count: int) -> None:
        self.received += count

    def grew(self, count: int) -> None:
        """`count` may be negative: compressed bytes of a layer give way to what they open to."""
        self.opened += count
        if self.opened > self._max_bytes:
            raise ArchiveBomb(f"The archive expands to more than {self._max_bytes} bytes.")
        if self.opened > RATIO_FROM_BYTES and self.opened > RATIO_MAX * self.received:
            raise ArchiveBomb(
                f"The archive expands to more than {RATIO_MAX} times the bytes that were sent."
            )
