"""Bytes of a resumable upload on their way to its file."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
from typing import TYPE_CHECKING, BinaryIO, Final

from pipeline.core.ingested import Piece, ReceiveProgress
from pipeline.errors import ChecksumMismatch, TooLarge
from pipeline.rules.tus import Checksum

if TYPE_CHECKING:
    from pipeline.adapters.upload_files import UploadFiles

WRITTEN_BYTES: Final = 1024 * 1024
"""Handed to the disk at once."""


class Appending:
    """One request's bytes. They count as they come, or, with a checksum, once it is right.

    Use it as `Uploads.append` hands it out: at its end all that counts is on the disk.
    """

    def __init__(
        self,
        files: UploadFiles,
        file: BinaryIO,
        aside: BinaryIO | None,
        *,
        offset: int,
        length: int,
        checksum: Checksum | None,
        note: ReceiveProgress,
    ) -> None:
        self.offset = offset
        """Where the upload is once `finish` or `keep` returned."""
        self.length = length
        self.received = offset
        self._files = files
        self._file = file
        self._aside = aside
        self._checksum = checksum
        self._hash = hashlib.new(checksum.algorithm) if checksum else None
        self._note = note
        self._waiting: list[Piece] = []
        self._waiting_bytes = 0
        self._job: asyncio.Task[None] | None = None

    async def write(self, chunk: Piece) -> None:
        """Raises TooLarge, and keeps nothing of this request then, past the upload's length.

        Raises what noting raises, too: Conflict when the image is nobody's concern any more.
        """
        self.received += len(chunk)
        if self.received > self.length:
            await self._drop()
            raise TooLarge(f"The upload has {self.length} bytes: nothing can follow them.")
        self._waiting.append(chunk)
        self._waiting_bytes += len(chunk)
        if self._waiting_bytes >= WRITTEN_BYTES:
            await self._flush()
            await self._note(self.received, self.length)

    async def finish(self) -> None:
        """The request is whole. Raises ChecksumMismatch; then the offset is what it was."""
        await self._settle()
        if self._checksum and self._hash:
            if not hmac.compare_digest(self._hash.digest(), self._checksum.digest):
                await self._drop()
                raise ChecksumMismatch("The bytes are not those of the checksum: send them again.")
            assert self._aside is not None, "bytes with a checksum are put aside"
            await asyncio.to_thread(self._files.join, self._file, self._aside)
            self._checksum = None
        await self.keep()

    async def keep(self) -> None:
        """Have on the disk what counts, however the request ended. Idempotent."""
        await self._settle()
        await asyncio.to_thread(self._files.sync, self._file)
        self.offset = self._file.seek(0, os.SEEK_END)
        await self._note(self.offset, self.length)

    async def _drop(self) -> None:
        self._waiting, self._waiting_bytes = [], 0
        await self._settle()
        self._checksum = None
        await asyncio.to_thread(self._file.truncate, self.offset)
        self.received = self.offset

    async def _settle(self) -> None:
        await self._flush()
        job, self._job = self._job, None
        if job is not None:
            await job

    async def _flush(self) -> None:
        """Hands over what waits, once what was handed over before is written."""
        pieces, self._waiting, self._waiting_bytes = self._waiting, [], 0
        job, self._job = self._job, None
        if job is not None:
            await job
        if pieces:
            self._job = asyncio.create_task(asyncio.to_thread(self._put, pieces))

    def _put(self, pieces: list[Piece]) -> None:
        if self._hash is not None:
            for piece in pieces:
                self._hash.update(piece)
        self._files.append(self._aside or self._file, pieces)
