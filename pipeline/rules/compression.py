"""Compressed streams, opened step by step: no step gives more than `STEP` bytes or a zstd block.

What is compressed is told by its first bytes, never by a name.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from enum import Enum
from typing import Final, Protocol

import zstandard

from pipeline.errors import TarTruncated
from pipeline.rules.zstd_blocks import Blocks, NotZstd

STEP: Final = 1024 * 1024
SLICE: Final = 16 * 1024
"""A gzip stream may begin anew every few bytes, and what follows a beginning is copied."""
SNIFFED: Final = 4
"""How many first bytes `sniff` needs."""
WINDOW_MAX: Final = 32 * 1024 * 1024
"""Of zstd: what the encoders of image builders use at most."""

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = (b"\x2a\x4d\x18", 0x50)


class Compression(Enum):
    NONE = ""
    GZIP = "gzip"
    ZSTD = "zstd"


class Opener(Protocol):
    """Raises TarTruncated when the content is broken, also when it ends too early."""

    def feed(self, chunk: bytes | memoryview) -> Iterator[bytes | memoryview]:
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


def opener(compression: Compression, *, window_max: int = WINDOW_MAX) -> Opener:
    match compression:
        case Compression.GZIP:
            return Gunzip()
        case Compression.ZSTD:
            return Unzstd(window_max)
    return Plain()


class Plain:
    def feed(self, chunk: bytes | memoryview) -> Iterator[bytes | memoryview]:
        yield chunk

    def close(self) -> None:
        return


class Gunzip:
    """RFC 1952: members one after another, and zeros after the last one."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)
        self._has_begun = False
        self._is_over = False

    def feed(self, chunk: bytes | memoryview) -> Iterator[bytes]:
        view = memoryview(chunk)
        for at in range(0, len(view), SLICE):
            yield from self._feed(bytes(view[at : at + SLICE]))

    def close(self) -> None:
        if not self._member.eof:
            raise _broken("gzip")

    def _feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._member.eof:
                data = self._next_member(data)
                continue
            self._has_begun = True
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


class Unzstd:
    """RFC 8878: frames one after another, opened block by block."""

    def __init__(self, window_max: int) -> None:
        self._context = zstandard.ZstdDecompressor(max_window_size=window_max)
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._blocks = Blocks()

    def feed(self, chunk: bytes | memoryview) -> Iterator[bytes]:
        try:
            for piece, ends_frame in self._blocks.feed(chunk):
                if self._frame is None:
                    self._frame = self._context.decompressobj()
                opened = self._frame.decompress(piece)
                if ends_frame:
                    self._frame = None
                if opened:
                    yield opened
        except (zstandard.ZstdError, NotZstd):
            raise _broken("zstd") from None

    def close(self) -> None:
        if not self._blocks.is_between_frames:
            raise _broken("zstd")


def _broken(what: str) -> TarTruncated:
    return TarTruncated(f"The {what} compression is broken or ends early: send it again, whole.")
