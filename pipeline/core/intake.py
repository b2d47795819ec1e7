"""The files of one archive as they come: kept when they are small, else pushed while they flow."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pipeline.core.ingest_digests import Digests
from pipeline.errors import ArchiveBomb, DigestMismatch
from pipeline.rules import archive_files, archives, compression
from pipeline.rules.archive_files import Files, Stored
from pipeline.rules.expansion import Expansion
from pipeline.rules.tar_parser import Data, Entry, Event, Kind

if TYPE_CHECKING:
    from pipeline.adapters.registry_push import BlobUpload, Pushing

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
    upload: BlobUpload | None = None
    kept: list[bytes] | None = None
    expected: str | None = None
    """The digest that its name promises."""


class Intake:
    """Feed it the events of one archive; `files` then says what came.

    `present` holds digests that are known to be in the pool of the registry. Raises ArchiveBomb,
    DigestMismatch and the RegistryError family.
    """

    def __init__(self, pushing: Pushing, expansion: Expansion, threads: Executor) -> None:
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
        elif entry.kind is Kind.FILE and not archives.is_noise(entry.path):
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
        if file.upload is not None:
            await self._pushing.commit(file.upload, digest)
        if file.kept is not None:
            self.files.small[file.path] = b"".join(file.kept)
        else:
            self.present.add(digest)
        self.files.stored[file.path] = Stored(digest, file.size, digests.compression, diff_id)

    async def _flush(self, file: _File) -> Digests:
        digests = file.digests or await self._start(file)
        pieces, file.waiting, file.waiting_bytes = file.waiting, [], 0
        await digests.update(pieces)
        if file.upload is not None:
            await file.upload.write(pieces)
        elif file.kept is not None:
            file.kept += map(bytes, pieces)
        return digests

    async def _start(self, file: _File) -> Digests:
        head = b"".join(bytes(piece[:4]) for piece in file.waiting[:4])
        kind = compression.sniff(head[: compression.SNIFFED])
        file.digests = Digests(kind, self._expansion, self._threads)
        file.expected = archive_files.promised_digest(file.path)
        if file.size <= KEPT_FILE_BYTES and self._kept_bytes + file.size <= KEPT_BYTES:
            self._kept_bytes += file.size
            file.kept = []
        elif not await self._is_present(file):
            await self._push(file)
        return file.digests

    async def _is_present(self, file: _File) -> bool:
        """Then the bytes are only digested: the name must turn out to be true."""
        likely = archive_files.likely_digest(file.path)
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
        file.upload = await self._pushing.begin()
