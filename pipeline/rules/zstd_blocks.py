"""Where the blocks of a zstd stream end (RFC 8878, 3.1).

Four bytes of zstd may stand for 128 KiB, and the library opens all that it is given at once.
Given one block at a time, it never makes more than 128 KiB.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Final

BLOCK_MAX: Final = 128 * 1024
_MAGIC: Final = 0xFD2FB528
_SKIPPABLE: Final = 0x184D2A50
_RLE: Final = 1
_RESERVED: Final = 3
_DICTIONARY_BYTES = (0, 1, 2, 4)
_CONTENT_SIZE_BYTES = (0, 2, 4, 8)

Piece = tuple[bytes, bool]
"""Bytes of one frame, at most one block of it, and whether the frame ends with them."""


class NotZstd(Exception):
    pass


class Blocks:
    """Feed it chunks of any size. Raises NotZstd; afterwards it must not be fed again."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._walk = self._frames()
        self._wanted = next(self._walk)[1]
        self._idle = True

    @property
    def is_between_frames(self) -> bool:
        """Nothing is half read."""
        return self._idle and not self._pending

    def feed(self, chunk: bytes | memoryview) -> Iterator[Piece]:
        view = memoryview(chunk)
        while view:
            missing = self._wanted - len(self._pending)
            self._pending += view[:missing]
            view = view[missing:]
            if len(self._pending) < self._wanted:
                return
            taken = bytes(self._pending)
            self._pending.clear()
            piece, self._wanted = self._walk.send(taken)
            if piece is not None:
                yield piece

    def _frames(self) -> Generator[tuple[Piece | None, int], bytes, None]:
        """Yields what became complete and how many bytes it wants next."""
        piece: Piece | None = None
        while True:
            self._idle = True
            magic = yield piece, 4
            self._idle = False
            number = int.from_bytes(magic, "little")
            if number & ~0xF == _SKIPPABLE:
                size = yield None, 4
                yield from self._skip(int.from_bytes(size, "little"))
                piece = None
            elif number == _MAGIC:
                piece = yield from self._frame(magic)
            else:
                raise NotZstd

    def _skip(self, left: int) -> Generator[tuple[None, int], bytes, None]:
        while left:
            step = min(left, 65536)
            yield None, step
            left -= step

    def _frame(self, magic: bytes) -> Generator[tuple[Piece | None, int], bytes, Piece]:
        descriptor = yield None, 1
        flags = descriptor[0]
        head = magic + descriptor
        if left := _header_bytes(flags):
            head += yield None, left
        checksum = 4 if flags & 4 else 0
        piece: Piece | None = None
        while True:
            block = yield piece, 3
            number = int.from_bytes(block, "little")
            is_last, kind, size = bool(number & 1), number >> 1 & 3, number >> 3
            if kind == _RESERVED or size > BLOCK_MAX:
                raise NotZstd
            content = (1 if kind == _RLE else size) + (checksum if is_last else 0)
            piece = head + block + ((yield None, content) if content else b""), is_last
            head = b""
            if is_last:
                return piece


def _header_bytes(flags: int) -> int:
    """Of the frame header after its descriptor."""
    is_single = bool(flags & 0x20)
    content_size = _CONTENT_SIZE_BYTES[flags >> 6] or is_single
    return (not is_single) + _DICTIONARY_BYTES[flags & 3] + content_size
