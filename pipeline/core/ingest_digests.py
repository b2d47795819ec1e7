"""Digests of what flows, computed in threads while the next bytes arrive."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Final

from pipeline.errors import TarTruncated
from pipeline.rules.compression import Compression, opener
from pipeline.rules.expansion import Expansion

INLINE_BYTES: Final = 16 * 1024
"""Below this, going to a thread and back takes longer than the work."""
AHEAD_BYTES: Final = 4 * 1024 * 1024
"""What may wait for its thread: on a busy machine threads are slow to wake, not slow to digest."""


class Digests:
    """Of one file: as it is, and, when it is compressed, of what it opens to.

    Raises ArchiveBomb when it opens to too much.
    """

    def __init__(self, compression: Compression, expansion: Expansion, threads: Executor) -> None:
        self.compression = compression
        self._threads = threads
        self._expansion = expansion
        self._content = hashlib.sha256()
        self._opened = None if compression is Compression.NONE else hashlib.sha256()
        self._opener = opener(compression)
        self._waiting: deque[bytes | memoryview] = deque()
        self._handed_in = 0
        self._done = 0
        """Written by the thread alone, as what was handed in is by its owner alone."""
        self._job: asyncio.Future[None] | None = None

    async def update(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Returns at once, unless much waits already."""
        size = sum(map(len, pieces))
        self._waiting.extend(pieces)
        self._handed_in += size
        if self._job is None and self._opened is None and size < INLINE_BYTES:
            self._work()
        elif self._handed_in - self._done > AHEAD_BYTES:
            await self.settled()
        elif self._job is None or self._job.done():
            await self._ended()
            self._start()

    async def settled(self) -> None:
        """Returns once everything handed in is done."""
        await self._ended()
        while self._waiting:
            self._start()
            await self._ended()

    async def finish(self) -> tuple[str, str | None]:
        """The digest of the content and that of the opened content.

        The second one is None when the compression is broken.
        """
        await self.settled()
        content = f"sha256:{self._content.hexdigest()}"
        if self.compression is Compression.NONE:
            return content, content
        try:
            self._opener.close()
        except TarTruncated:
            self._opened = None
        return content, None if self._opened is None else f"sha256:{self._opened.hexdigest()}"

    async def _ended(self) -> None:
        job, self._job = self._job, None
        if job is not None:
            await job

    def _start(self) -> None:
        self._job = asyncio.get_running_loop().run_in_executor(self._threads, self._work)
        self._job.add_done_callback(_seen)

    def _work(self) -> None:
        while self._waiting:
            piece = self._waiting.popleft()
            self._content.update(piece)
            if self._opened is not None:
                self._feed(piece)
            self._done += len(piece)

    def _feed(self, piece: bytes | memoryview) -> None:
        try:
            self._open(piece)
        except TarTruncated:
            # Whether that matters is known when somebody names the file as a layer.
            self._opened = None

    def _open(self, piece: bytes | memoryview) -> None:
        self._expansion.grew(-len(piece))
        for opened in self._opener.feed(piece):
            self._expansion.grew(len(opened))
            assert self._opened is not None, "it is only opened while it is whole"
            self._opened.update(opened)


def _seen(job: asyncio.Future[None]) -> None:
    """An archive that was given up waits for no job: its failure is then nobody's news."""
    if not job.cancelled():
        job.exception()
