"""Uploads that can be resumed: created, continued, looked at and given up.

The file of an upload says how much is here, its record what is to become of it. What happens once
all bytes are here: `ingesting`.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import BinaryIO, Final

from pipeline import concurrency
from pipeline.adapters.disk.upload_files import UploadFiles
from pipeline.errors import (
    ChecksumMismatch,
    Conflict,
    Gone,
    LostRace,
    NotFound,
    TooLarge,
    YardError,
)
from pipeline.images.ingest.ingest import Wish
from pipeline.images.ingest.progress import Meter
from pipeline.images.ingest.service import Deliveries
from pipeline.models.deliveries import ModelDeliveries
from pipeline.models.service import load
from pipeline.records.kernel import Change, Records, living
from pipeline.records.queries import Page, page
from pipeline.settings import Settings
from pipeline.uploads.tus import Checksum
from schemas.access import Principal
from schemas.image import Image, ImageSource, Upload, UploadWish
from schemas.states import UploadStatus

REST_S: Final = 1.0
REST_LOOK_S: Final = 0.02


class Uploads:
    """Every call acts for the organisation of its caller and sees nothing of others."""

    def __init__(
        self,
        records: Records,
        files: UploadFiles,
        deliveries: Deliveries,
        models: ModelDeliveries,
        settings: Settings,
    ) -> None:
        self._records = records
        self._store = records.store
        self._files = files
        self._deliveries = deliveries
        self._models = models
        self._max_bytes = settings.upload_max_bytes
        self.expiry = timedelta(seconds=settings.upload_expiry_s)
        self._clock = records.clock
        self.received = asyncio.Event()
        """Set when an upload of this process became whole."""

    async def create(
        self, caller: Principal, wish: UploadWish, length: int, metadata: str | None = None
    ) -> Upload:
        """`metadata` is kept as its sender gave it.

        Raises TooLarge, NotFound for an unknown model or version, InvalidInput, DiskFull.
        """
        if length > self._max_bytes:
            raise TooLarge(f"An upload has at most {self._max_bytes} bytes.", limit=self._max_bytes)
        image = await self._image(caller, wish, length)
        upload = Upload(
            **self._records.initial(caller.org),
            length=length,
            wish=wish,
            metadata=metadata,
            image=image.uuid,
            created_by=caller.id,
        )
        try:
            await asyncio.to_thread(self._files.create, upload.uuid)
            upload = await self._records.insert(upload, [])
        except YardError as error:
            await self._deliveries.fail(image, error)
            await asyncio.to_thread(self._files.remove, upload.uuid)
            raise
        return upload if length else await self.complete(upload)

    async def list(
        self, caller: Principal, *, limit: int = 50, cursor: str | None = None
    ) -> Page[Upload]:
        """Newest first, without those that were given up or have expired."""
        where = living(UploadStatus.DELETED)
        return await page(
            self._store, Upload, org=caller.org, where=where, limit=limit, cursor=cursor
        )

    async def get(self, caller: Principal, id: str) -> Upload:
        """Raises NotFound, and Gone for one that was deleted or has expired."""
        upload = await self._store.get(Upload, id, org=caller.org)
        if upload.status is UploadStatus.DELETED:
            raise Gone("The upload was deleted or has expired: begin a new one.")
        if upload.status is UploadStatus.RECEIVING and self.expires_at(upload) <= self._clock():
            raise Gone("The upload has expired: begin a new one.")
        return upload

    def offset(self, upload: Upload) -> int:
        """Bytes that are here."""
        if upload.status is not UploadStatus.RECEIVING:
            return upload.length
        return self._files.size(upload.uuid) or 0

    async def at_rest(self, upload: Upload) -> None:
        """Wait a moment for a request that was cut to put away what it brought.

        A sender who lost the connection may be back before we know of the loss.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + REST_S
        # The lock may be another process's: there is nothing here that could be waited for.
        while self._files.is_locked(upload.uuid) and loop.time() < end:  # noqa: ASYNC110
            await asyncio.sleep(REST_LOOK_S)

    def expires_at(self, upload: Upload) -> datetime:
        """In whole seconds: counted from its last byte, or from its end."""
        touched = self._files.touched_at(upload.uuid)
        if upload.status is UploadStatus.RECEIVING and touched is not None:
            since = datetime.fromtimestamp(touched, UTC)
        else:
            since = upload.status_since or upload.created_at
        return (since + self.expiry).astimezone(UTC).replace(microsecond=0)

    @asynccontextmanager
    async def append(
        self,
        caller: Principal,
        id: str,
        *,
        offset: int,
        length: int | None,
        checksum: Checksum | None,
    ) -> AsyncIterator[Appending]:
        """Write bytes at `offset`; `length` is how many will come, when that is known.

        Whatever ends the block, what arrived is kept; with a checksum only when that is right.
        Raises NotFound, Gone, Conflict for another offset and while somebody else writes, TooLarge
        past the end, ChecksumMismatch, DiskFull; and Conflict when the image was superseded.
        """
        upload = await self.get(caller, id)
        if upload.status is not UploadStatus.RECEIVING:
            self._require_place(upload, offset, length or 0)
        await self.at_rest(upload)
        try:
            async with self._appending(upload, offset, length or 0, checksum) as appending:
                yield appending
        except (NotFound, Conflict):
            # Somebody may have given it up meanwhile: then that is the reason.
            await self.get(caller, id)
            raise
        if appending.offset == upload.length:
            await self.complete(upload)

    @asynccontextmanager
    async def _appending(
        self, upload: Upload, offset: int, length: int, checksum: Checksum | None
    ) -> AsyncIterator[Appending]:
        image = await self._image_of(upload)
        with ExitStack() as stack:
            file = stack.enter_context(self._files.locked(upload.uuid))
            self._require_place(upload, offset, length)
            meter = self._deliveries.meter(image)
            appending = Appending(
                self._files,
                file,
                stack.enter_context(self._files.aside(upload.uuid)) if checksum else None,
                offset=offset,
                length=upload.length,
                checksum=checksum,
                meter=meter,
            )
            async with meter:
                try:
                    yield appending
                    await appending.finish()
                finally:
                    await concurrency.run_to_completion(appending.keep())

    async def complete(self, upload: Upload) -> Upload:
        """All bytes are here: whoever looks after whole uploads goes on with it. Idempotent."""
        try:
            upload = await self._records.commit(upload, Change(status=UploadStatus.INGESTING))
        except (LostRace, NotFound):
            return upload  # somebody gave it up, or completed it, at the same moment
        self.received.set()
        return upload

    async def delete(self, caller: Principal, id: str) -> None:
        """Give it up, with what it was about to make. Raises NotFound, Gone."""
        await self.forget(await self.get(caller, id), "The upload was deleted.")

    async def forget(self, upload: Upload, reason: str) -> None:
        """End an upload and, unless it is done, its image. Idempotent."""

        def decide(upload: Upload, at: datetime) -> Change | None:
            is_over = upload.status is UploadStatus.DELETED
            return None if is_over else Change(status=UploadStatus.DELETED, reason=reason)

        upload = await self._records.amend(upload, decide)
        await asyncio.to_thread(self._files.remove, upload.uuid)
        try:
            image = await self._store.get(Image, upload.image, org=upload.org)
        except NotFound:
            return
        await self._deliveries.fail(image, Gone(reason))

    async def _image_of(self, upload: Upload) -> Image:
        """Raises Conflict when it was deleted: who sends has never seen its id."""
        try:
            return await self._store.get(Image, upload.image, org=upload.org)
        except NotFound as error:
            raise Conflict("The image of this upload was deleted: begin a new upload.") from error

    async def _image(self, caller: Principal, wish: UploadWish, length: int) -> Image:
        if wish.model and wish.version:
            version = await load(self._store, caller.org, wish.model, wish.version)
            delivered = await self._models.begin_archive(
                caller, version, platform=wish.platform, source=ImageSource.UPLOAD, total=length
            )
            return delivered.image
        return await self._deliveries.begin(
            caller, asked(wish), source=ImageSource.UPLOAD, total=length
        )

    def _require_place(self, upload: Upload, offset: int, length: int) -> None:
        """Raises Conflict for another offset than the upload's, TooLarge past its end."""
        if upload.status is not UploadStatus.RECEIVING:
            raise Conflict("All bytes of the upload are here: nothing can follow them.")
        size = self.offset(upload)
        if size != offset:
            raise Conflict(f"The upload is at {size}, not at {offset}: go on from there.")
        if offset + length > upload.length:
            raise TooLarge(f"The upload has {upload.length} bytes: nothing can follow them.")


def asked(wish: UploadWish) -> Wish:
    return Wish(
        name=wish.name, filename=wish.filename, repo_tag=wish.repo_tag, platform=wish.platform
    )


# --- Bytes of a resumable upload on their way to its file

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
        meter: Meter,
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
        self._meter = meter
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._job: asyncio.Task[None] | None = None

    async def write(self, chunk: bytes) -> None:
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
            self._meter.note(self.received, self.length)

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
        self._meter.note(self.offset, self.length)

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

    def _put(self, pieces: list[bytes]) -> None:
        if self._hash is not None:
            for piece in pieces:
                self._hash.update(piece)
        self._files.append(self._aside or self._file, pieces)
