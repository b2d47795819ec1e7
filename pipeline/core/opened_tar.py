"""The entries of a TAR that may come compressed, opened in threads while it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Executor
from typing import Final

from pipeline.rules import compression
from pipeline.rules.compression import Compression, Opener
from pipeline.rules.expansion import Expansion
from pipeline.rules.tar_parser import Event, TarParser

WINDOW_MAX: Final = 8 * 1024 * 1024
"""Of a zstd archive: what RFC 8878 asks every decoder to support."""


class OpenedTar:
    """Feed it the bytes as they come. Raises the ImageRejected family."""

    def __init__(self, expansion: Expansion, threads: Executor) -> None:
        self._expansion = expansion
        self._threads = threads
        self._parser = TarParser()
        self._head = b""
        self._opener: Opener | None = None
        self._is_plain = False

    async def feed(self, chunk: bytes | memoryview) -> AsyncIterator[Event]:
        """What `chunk` completes. Consume it wholly before feeding more."""
        if self._opener is None:
            chunk = b"".join((self._head, chunk))
            if len(chunk) < compression.SNIFFED:
                self._head = chunk
                return
            self._begin(chunk)
        async for piece in self._open(chunk):
            self._expansion.grew(len(piece))
            for event in self._parser.feed(piece):
                yield event

    def close(self) -> None:
        """The input is over. Raises NotATar, TarTruncated."""
        if self._opener is None:
            self._begin(self._head)
            for _ in self._parser.feed(self._head):
                continue
        assert self._opener is not None, "it was begun"
        self._opener.close()
        self._parser.close()

    def _begin(self, head: bytes) -> None:
        kind = compression.sniff(head[: compression.SNIFFED])
        self._is_plain = kind is Compression.NONE
        self._opener = compression.opener(kind, window_max=WINDOW_MAX)

    async def _open(self, chunk: bytes | memoryview) -> AsyncIterator[bytes | memoryview]:
        assert self._opener is not None, "it was begun"
        pieces: Iterator[bytes | memoryview | None] = iter(self._opener.feed(chunk))
        if self._is_plain:
            yield chunk
            return
        loop = asyncio.get_running_loop()
        while (piece := await loop.run_in_executor(self._threads, next, pieces, None)) is not None:
            yield piece
