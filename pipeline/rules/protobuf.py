"""The wire format of Protocol Buffers: numbered fields, read from hostile bytes.

Enough for messages of integers, booleans, texts, bytes and messages within messages.
https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

VARINT_BYTES_MAX: Final = 10
FIELD_NUMBER_MAX: Final = 2**29 - 1
_VARINT, _LENGTH = 0, 2
_FIXED_WIDTHS = {1: 8, 5: 4}


class Malformed(ValueError):
    """These bytes are no message."""


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of every field in order: an unsigned integer, or what has a length.

    Fields of fixed width, which floating-point numbers are, are checked and left out. Raises
    Malformed when it comes to what is wrong.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if not 1 <= number <= FIELD_NUMBER_MAX:
            raise Malformed("a field has no valid number")
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield number, value
        elif kind == _LENGTH:
            length, at = _varint(message, at)
            yield number, _slice(message, at, length)
            at += length
        elif kind in _FIXED_WIDTHS:
            at += len(_slice(message, at, _FIXED_WIDTHS[kind]))
        else:
            raise Malformed("a field has a type that no message has")


def int32(value: int | bytes) -> int | None:
    """As a signed number of 32 bits; None for a field that is none."""
    if isinstance(value, bytes):
        return None
    low = value & 0xFFFFFFFF
    return low - 2**32 if low >= 2**31 else low


def sized(number: int, content: bytes) -> bytes:
    """A field of bytes, text, or a message."""
    return _encoded(number << 3 | _LENGTH) + _encoded(len(content)) + content


def _slice(message: bytes, at: int, length: int) -> bytes:
    if at + length > len(message):
        raise Malformed("it ends within a field")
    return message[at : at + length]


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(message[at : at + VARINT_BYTES_MAX]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value & (2**64 - 1), at + index + 1
    raise Malformed("it ends within a number, or the number is too long")


def _encoded(value: int) -> bytes:
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
