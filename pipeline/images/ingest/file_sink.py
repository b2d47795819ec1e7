"""The files of one archive as they come: kept when they are small, else pushed while they flow."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Final

from pipeline.adapters.registry.push import PushSession
from pipeline.archives import compression, layouts
from pipeline.archives.compression import Compression, Expansion, Opener, opener
from pipeline.archives.files import Files, Stored, likely_digest, promised_digest
from pipeline.archives.tar_parser import Data, Entry, Event, Kind
from pipeline.errors import (
    ArchiveBomb,
    DigestMismatch,
    ImageIncomplete,
    InvalidReference,
    TarTruncated,
)
from pipeline.oci import references

KEPT_FILE_BYTES: Final = 1024 * 1024
KEPT_BYTES: Final = 16 * 1024 * 1024
"""Of all kept files of one archive together; what comes later is pushed."""
BATCH_BYTES: Final = 512 * 1024
"""Digested and sent at once."""
PUSHED_MAX: Final = 2048
"""Files of one archive that go to the registry before anybody knows what they are."""


@dataclass(slots=True)
class _File:
    """The file that flows right now."""

    path: str
    size: int
    waiting: list[bytes | memoryview] = field(default_factory=list)
    waiting_bytes: int = 0
    digests: Digests | None = None
    """None until its first bytes are there."""
    is_pushed: bool = False
    kept: list[bytes] | None = None
    expected: str | None = None
    """The digest that its name promises."""


class FileSink:
    """Feed it the events of one archive; `files` then says what came.

    `present` holds digests that are known to be in the pool of the registry. Raises ArchiveBomb,
    DigestMismatch and the RegistryError family.
    """

    def __init__(self, pushing: PushSession, expansion: Expansion, threads: Executor) -> None:
        self.files = Files()
        self.present: set[str] = set()
        self._pushing = pushing
        self._expansion = expansion
        self._threads = threads
        self._kept_bytes = 0
        self._pushed = 0
        self._file: _File | None = None

    async def take(self, event: Event) -> None:
        if isinstance(event, Data):
            if self._file is not None:
                await self._data(self._file, event.bytes)
        elif isinstance(event, Entry):
            self._begin(event)
        elif self._file is not None:
            file, self._file = self._file, None
            await self._end(file)

    def _begin(self, entry: Entry) -> None:
        if entry.kind is Kind.LINK and entry.target is not None:
            self.files.links[entry.path] = entry.target
        elif entry.kind is Kind.FILE and not layouts.is_noise(entry.path):
            self._file = _File(entry.path, size=entry.size)

    async def _data(self, file: _File, piece: memoryview) -> None:
        file.waiting.append(piece)
        file.waiting_bytes += len(piece)
        if file.waiting_bytes >= BATCH_BYTES:
            await self._flush(file)

    async def _end(self, file: _File) -> None:
        digests = await self._flush(file)
        digest, diff_id = await digests.finish()
        if file.expected and file.expected != digest:
            raise DigestMismatch(
                f"{file.path[:200]} has the digest {digest}, not the one it is named by: make the"
                " archive again."
            )
        if file.is_pushed:
            await self._pushing.commit(digest)
        if file.kept is not None:
            self.files.small[file.path] = b"".join(file.kept)
        else:
            self.present.add(digest)
        self.files.stored[file.path] = Stored(digest, file.size, digests.compression, diff_id)

    async def _flush(self, file: _File) -> Digests:
        digests = file.digests or await self._start(file)
        pieces, file.waiting, file.waiting_bytes = file.waiting, [], 0
        await digests.update(pieces)
        if file.is_pushed:
            await self._pushing.write(pieces)
        elif file.kept is not None:
            file.kept += map(bytes, pieces)
        return digests

    async def _start(self, file: _File) -> Digests:
        head = b"".join(bytes(piece[:4]) for piece in file.waiting[:4])
        kind = compression.sniff(head[: compression.SNIFFED])
        file.digests = Digests(kind, self._expansion, self._threads)
        file.expected = promised_digest(file.path)
        if file.size <= KEPT_FILE_BYTES and self._kept_bytes + file.size <= KEPT_BYTES:
            self._kept_bytes += file.size
            file.kept = []
        elif not await self._is_present(file):
            await self._push(file)
        return file.digests

    async def _is_present(self, file: _File) -> bool:
        """Then the bytes are only digested: the name must turn out to be true."""
        likely = likely_digest(file.path)
        if likely is None:
            return False
        if likely not in self.present and await self._pushing.size_of(likely) != file.size:
            return False
        file.expected = likely
        return True

    async def _push(self, file: _File) -> None:
        self._pushed += 1
        if self._pushed > PUSHED_MAX:
            raise ArchiveBomb(f"The archive has more than {PUSHED_MAX} large files.")
        await self._pushing.begin()
        file.is_pushed = True


# --- Digests of what flows, computed in threads while the next bytes arrive

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
        self._opener = opener(compression)
        self._opened = hashlib.sha256() if self._opener else None
        """None also once its compression turned out to be broken."""
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
        if self._opener is None:
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
            if self._opener is not None and self._opened is not None:
                self._open(piece, self._opener, self._opened)
            self._done += len(piece)

    def _open(self, piece: bytes | memoryview, opener: Opener, content: hashlib._Hash) -> None:
        self._expansion.grew(-len(piece))
        try:
            for opened in opener.feed(piece):
                self._expansion.grew(len(opened))
                content.update(opened)
        except TarTruncated:
            # Whether that matters is known when somebody names the file as a layer.
            self._opened = None


def _seen(job: asyncio.Future[None]) -> None:
    """An archive that was given up waits for no job: its failure is then nobody's news."""
    if not job.cancelled():
        job.exception()


# --- Files that a sender left out of its archive because the registry has them

DECLARATION: Final = "modelyard-present.json"
DECLARED_MAX: Final = 1024


async def add_present(
    pushing: PushSession, sink: FileSink, expansion: Expansion, threads: Executor
) -> None:
    """Complete `sink.files` by what its declaration names. Raises ImageIncomplete."""
    for path, digest in _declared(sink.files).items():
        if path in sink.files.stored or path in sink.files.links:
            continue
        size = await pushing.size_of(digest)
        if size is None:
            raise ImageIncomplete(
                f"The archive leaves out {digest}, which is not here any more: send it whole."
            )
        kind = compression.sniff(await pushing.head_of(digest, compression.SNIFFED))
        diff_id: str | None = digest
        if kind is not Compression.NONE:
            diff_id = await _opened(pushing, digest, Digests(kind, expansion, threads))
        sink.files.stored[path] = Stored(digest, size, kind, diff_id)


def _declared(files: Files) -> dict[str, str]:
    body = files.document(DECLARATION)
    if body is None:
        return {}
    declared = layouts.read_json(body, DECLARATION)
    if not isinstance(declared, dict) or len(declared) > DECLARED_MAX:
        raise ImageIncomplete(f"{DECLARATION} is no object of at most {DECLARED_MAX} digests.")
    return {path: _digest(digest) for path, digest in declared.items()}


def _digest(text: object) -> str:
    try:
        return references.require_digest(str(text))
    except InvalidReference as error:
        raise ImageIncomplete(f"{DECLARATION} is broken: {error.message}") from None


async def _opened(pushing: PushSession, digest: str, digests: Digests) -> str | None:
    async for piece in pushing.read(digest):
        await digests.update([piece])
    _, diff_id = await digests.finish()
    return diff_id
