"""Digests of what flows, computed in threads while the next bytes arrive."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Final

from pipeline.errors import TarTruncated
from pipeline.rules.compression import Compression, opener
from pipeline.rules.expansion import Expansion

INLINE_BYTES: Final = 16 * 1024
"""Below this, going to a thread and back takes longer than the work."""


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
        self._job: asyncio.Future[None] | None = None

    async def update(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Returns once the pieces before these are done; these are then under way."""
        await self.settled()
        if self._opened is None and sum(map(len, pieces)) < INLINE_BYTES:
            self._work(pieces)
            return
        loop = asyncio.get_running_loop()
        self._job = loop.run_in_executor(self._threads, self._work, pieces)
        self._job.add_done_callback(_seen)

    async def settled(self) -> None:
        """Returns once everything handed in is done."""
        job, self._job = self._job, None
        if job is not None:
            await job

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

    def _work(self, pieces: Sequence[bytes | memoryview]) -> None:
        for piece in pieces:
            self._content.update(piece)
        if self._opened is None:
            return
        try:
            for piece in pieces:
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
