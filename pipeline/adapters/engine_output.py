"""A container's output as the engine sends it, taken apart into lines with their times."""

from __future__ import annotations

import codecs
import struct
from collections.abc import Iterator
from typing import Literal

from pipeline.adapters.engine_times import at, parse_ns
from pipeline.ports import LogLine

_HEADER = struct.Struct(">BxxxL")
_LONGEST_LINE = 64 * 1024
"""An engine cuts lines at 16 KiB; only a terminal's output can be longer without a newline."""

Stream = Literal["stdout", "stderr"]


class LogDecoder:
    """Feed it the pieces of GET /containers/{id}/logs with `timestamps=1`, in any cut.

    The engine says only since API 1.42 whether the container has a terminal. Its frames begin
    with a byte 0, 1 or 2, a terminal's lines with the digit of a year: the first byte tells.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._framed: bool | None = None
        self._last_ns = 0
        decoder = codecs.getincrementaldecoder("utf-8")
        self._text = {"stdout": decoder("replace"), "stderr": decoder("replace")}

    def feed(self, piece: bytes) -> Iterator[LogLine]:
        self._rest += piece
        if self._framed is None and self._rest:
            self._framed = self._rest[0] < 3
        yield from self._frames() if self._framed else self._lines()

    def finish(self) -> Iterator[LogLine]:
        """What a terminal wrote last without a newline."""
        if self._rest and not self._framed:
            yield self._line("stdout", self._rest)
            self._rest = b""

    def _frames(self) -> Iterator[LogLine]:
        held, position = self._rest, 0
        while len(held) - position >= _HEADER.size:
            stream, size = _HEADER.unpack_from(held, position)
            end = position + _HEADER.size + size
            if len(held) < end:
                break
            yield self._line("stderr" if stream == 2 else "stdout", held[position + 8 : end])
            position = end
        self._rest = held[position:]

    def _lines(self) -> Iterator[LogLine]:
        *whole, self._rest = self._rest.split(b"\n")
        for line in whole:
            yield self._line("stdout", line + b"\n")
        if len(self._rest) > _LONGEST_LINE:
            yield self._line("stdout", self._rest)
            self._rest = b""

    def _line(self, stream: Stream, content: bytes) -> LogLine:
        stamp, _, text = content.partition(b" ")
        time_ns = parse_ns(stamp.decode("ascii", "replace"))
        if time_ns is None:  # the rest of a long line: it has the time of its beginning
            time_ns, text = self._last_ns, content
        self._last_ns = time_ns
        return LogLine(stream, at(time_ns), time_ns, self._text[stream].decode(text))
