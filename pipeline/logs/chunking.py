"""Output of one run of a container, cut into chunks, each byte once however often it is read."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from pipeline.logs.chunks import SECOND_NS, LogPosition, LogPositions, SentChunk, StreamName
from pipeline.ports import LogLine

CHUNK_BYTES: Final = 8 * 1024
CHUNK_S: Final = 1.0
CHUNK_NS: Final = SECOND_NS
SLACK_NS: Final = 5 * SECOND_NS
"""Two streams are stamped side by side: what stands later in a log may be stamped earlier."""
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""All of them but tab and newline."""


@dataclass(slots=True)
class _Open:
    """A chunk that still grows."""

    begin: tuple[int, int]
    since_s: float
    """By the reader's clock."""
    parts: list[str] = field(default_factory=list)
    size: int = 0
    """In bytes."""


@dataclass(slots=True)
class _Stream:
    taken: tuple[int, int] = (-1, 0)
    """The end of what was taken."""
    read_ns: int = -1
    read_offset: int = 0
    """The end of what was read: before that of what was taken while it is read once more."""
    is_behind: bool = True
    open: _Open | None = None


class Chunker:
    """Feed it what an engine tells of one container, from its beginning or from `since_ns`."""

    def __init__(self, container: str, engine_id: str, positions: LogPositions) -> None:
        """`positions`: the ends of what was taken before."""
        self._container = container
        self._engine_id = engine_id
        self._streams: dict[StreamName, _Stream] = {"stdout": _Stream(), "stderr": _Stream()}
        for name, position in positions.items():
            self._streams[name].taken = position.key

    @property
    def since_ns(self) -> int | None:
        """From where to read on, so that nothing is missed; None: from the beginning."""
        newest = max(stream.taken[0] for stream in self._streams.values())
        return None if newest < 0 else max(0, newest - SLACK_NS)

    @property
    def is_open(self) -> bool:
        return any(stream.open for stream in self._streams.values())

    def read_again(self) -> None:
        """What is fed next begins at `since_ns` or before: what was taken is passed over."""
        for stream in self._streams.values():
            stream.read_ns, stream.read_offset, stream.is_behind = -1, 0, True

    def feed(self, line: LogLine, now_s: float) -> list[SentChunk]:
        """Returns the chunks that it closes, oldest first."""
        stream, text = self._streams[line.stream], line.text
        if line.time_ns != stream.read_ns:
            stream.read_ns, stream.read_offset = line.time_ns, 0
        offset = stream.read_offset
        stream.read_offset = offset + len(text)
        if stream.is_behind:
            if (line.time_ns, stream.read_offset) <= stream.taken:
                return []
            stream.is_behind = False
            if line.time_ns == stream.taken[0]:
                text, offset = text[stream.taken[1] - offset :], stream.taken[1]
        # Of both: what was written to the one long ago must not come behind the other's news.
        closed = self._closed(lambda opened: line.time_ns - opened.begin[0] >= CHUNK_NS)
        return closed + self._take(line.stream, text, (line.time_ns, offset), now_s)

    def due(self, now_s: float) -> list[SentChunk]:
        """Closes what has been open for long enough, though nothing more came."""
        return self._closed(lambda opened: now_s - opened.since_s >= CHUNK_S)

    def close(self) -> list[SentChunk]:
        """Closes everything: its output has ended, for now."""
        return self._closed(lambda opened: True)

    def _closed(self, is_due: Callable[[_Open], bool]) -> list[SentChunk]:
        due = [name for name, each in self._streams.items() if each.open and is_due(each.open)]
        return [self._close(name) for name in due]

    def _take(
        self, name: StreamName, text: str, begin: tuple[int, int], now_s: float
    ) -> list[SentChunk]:
        stream, closed = self._streams[name], []
        time_ns, offset = begin
        while text:
            if stream.open is None:
                stream.open = _Open((time_ns, offset), now_s)
            part, size = _beginning(text, CHUNK_BYTES - stream.open.size)
            stream.open.parts.append(part)
            stream.open.size += size
            offset += len(part)
            text = text[len(part) :]
            stream.taken = (time_ns, offset)
            if text or stream.open.size >= CHUNK_BYTES:
                closed.append(self._close(name))
        return closed

    def _close(self, name: StreamName) -> SentChunk:
        stream = self._streams[name]
        opened = stream.open
        assert opened is not None
        stream.open = None
        return SentChunk.model_construct(
            container=self._container,
            engine_id=self._engine_id,
            stream=name,
            begin=_position(opened.begin),
            end=_position(stream.taken),
            text=_CONTROL.sub("", "".join(opened.parts)),
        )


def _beginning(text: str, room: int) -> tuple[str, int]:
    """As much as fits into so many bytes of UTF-8, and how many it takes. It may be nothing."""
    if text.isascii():
        part = text[:room]
        return part, len(part)
    encoded = text[:room].encode()
    if len(encoded) <= room:
        return text[:room], len(encoded)
    part = encoded[:room].decode("utf-8", "ignore")
    return part, len(part.encode())


def _position(key: tuple[int, int]) -> LogPosition:
    return LogPosition.model_construct(time_ns=key[0], offset=key[1])
