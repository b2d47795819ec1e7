"""How much of a request may be anything but its body. Pure: the protocol feeds the parser.

What came is cut where lines and bodies end, so that every bound is met at its first byte too many
and the parser never sees more than that.
"""

from __future__ import annotations

import re
from typing import Final

from api.http.problem_details import Failure

HEAD_BYTES: Final = 64 * 1024
"""Of request line and fields together, as common proxies allow."""
TARGET_BYTES: Final = 8 * 1024
FIELDS: Final = 100
CHUNK_LINES_BYTES: Final = 16 * 1024
"""Of chunk extensions and trailers together; see `chunk` for what does not count."""

_LINE = re.compile(rb"[^\n]*\n?")
_FIRST_LINE = re.compile(rb"[\r\n]*[^\n]*\n?")
"""Empty lines before a request are skipped (RFC 9112, 2.2)."""
_SIZE = re.compile(rb"[0-9a-fA-F]+")
_SIZE_BYTES = 32


class Excess(Exception):
    """There is more of it than anybody needs. Holds the `failure` to answer with."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.failure = Failure(status, code, detail)


class Framing:
    """Where in one request its sender is. The parser's callbacks move it on."""

    def __init__(self) -> None:
        self._in_head, self._has_begun, self._is_line_over = True, False, False
        self._head_bytes = self._head_lines = 0
        self._left = 0
        """Of the body, or of the chunk."""
        self._lines_bytes = 0
        """Of the lines between chunks, as far as they count."""
        self._size, self._is_last = b"", False
        """What the line before a chunk begins with; whether it was the last one."""

    @property
    def is_in_head(self) -> bool:
        """Before or in the head of a request."""
        return self._in_head

    def cut(self, data: bytes, at: int) -> int:
        """Where the next piece ends, which the parser is to be fed as a whole. Raises Excess."""
        if self._in_head:
            return self._cut_head(data, at)
        if self._left:
            end = min(len(data), at + self._left)
            self._left -= end - at
            return end
        return self._cut_chunk_line(data, at)

    def begin(self) -> None:
        """The first byte of a request line: empty lines before it were no fields."""
        self._has_begun, self._head_lines = True, int(self._is_line_over)

    def head(self, length: int | None) -> None:
        """The head is complete; `length` of the body, None for one in chunks."""
        self._in_head = False
        self._left = length or 0

    def chunk(self) -> None:
        """The line before a chunk is complete.

        What a chunk needs does not count, nor does twice its size: some clients sign each one.
        """
        size = _SIZE.match(self._size)
        self._left = int(size[0], 16) if size else 0
        self._is_last, self._size = self._left == 0, b""
        self._lines_bytes = max(0, self._lines_bytes - 16 - 2 * self._left)

    def _cut_head(self, data: bytes, at: int) -> int:
        room = HEAD_BYTES - self._head_bytes
        if not room:
            raise _too_large(f"The head of a request has at most {HEAD_BYTES} bytes: send less.")
        if self._head_lines >= FIELDS + 2:
            raise _too_large(f"A request has at most {FIELDS} header fields: send fewer.")
        end = min(_line_end(_LINE if self._has_begun else _FIRST_LINE, data, at), at + room)
        self._head_bytes += end - at
        self._is_line_over = data.endswith(b"\n", at, end)
        self._head_lines += self._is_line_over
        return end

    def _cut_chunk_line(self, data: bytes, at: int) -> int:
        room = CHUNK_LINES_BYTES - self._lines_bytes
        if not room and self._is_last:
            raise _too_large(f"Trailers have at most {CHUNK_LINES_BYTES} bytes: send less.")
        if not room:
            why = f"Chunk extensions have at most {CHUNK_LINES_BYTES} bytes: send the chunks plain."
            raise Excess(400, "malformed_request", why)
        end = min(_line_end(_LINE, data, at), at + room)
        self._lines_bytes += end - at
        # The line break behind the bytes of a chunk is no size.
        self._size = (self._size + data[at : min(end, at + _SIZE_BYTES)]).lstrip(b"\r\n")
        self._size = self._size[:_SIZE_BYTES]
        return end


def check_target(length: int) -> None:
    """Raises Excess for a target of more bytes than that."""
    if length > TARGET_BYTES:
        why = f"The target of a request has at most {TARGET_BYTES} bytes: send less in its query."
        raise Excess(414, "target_too_long", why)


def _line_end(line: re.Pattern[bytes], data: bytes, at: int) -> int:
    found = line.match(data, at)
    return found.end() if found else len(data)


def _too_large(why: str) -> Excess:
    return Excess(431, "head_too_large", why)
