"""Uploads that can be resumed: created, continued, looked at and given up.

The file of an upload says how much is here, its record what is to become of it. What happens once
all bytes are here: `upload_ingest`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol

from pipeline import tasks
from pipeline.core import records
from pipeline.core.deliveries import Deliveries
from pipeline.core.ingested import Wish
from pipeline.core.upload_appends import Appending
from pipeline.errors import Conflict, Gone, LostRace, NotFound, TooLarge, YardError
from pipeline.rules import upload_progress
from pipeline.rules.tus import Checksum
from pipeline.settings import Settings
from schemas.access import Principal
from schemas.image import Image, ImageSource
from schemas.states import UploadStatus
from schemas.upload import Upload, UploadView, UploadWish

if TYPE_CHECKING:
    from pipeline.adapters.store import Store
    from pipeline.adapters.upload_files import UploadFiles
    from pipeline.core.model_deliveries import Delivered


REST_S: Final = 1.0
REST_LOOK_S: Final = 0.02


class ModelArchives(Protocol):
    """Deliveries to versions of models."""

    async def begin_archive(
        self,
        caller: Principal,
        model: str,
        version: str,
        *,
        platform: str | None,
        source: ImageSource,
        total: int | None,
    ) -> Delivered:
        """The image, of which nothing is here yet, counts for the version from now on.

        Raises NotFound for an unknown model or version.
        """
        ...


class Uploads:
    """Every call acts for the organisation of its caller and sees nothing of others."""

    def __init__(
        self,
        store: Store,
        files: UploadFiles,
        deliveries: Deliveries,
        models: ModelArchives,
        settings: Settings,
        clock: records.Clock,
    ) -> None:
        self._store = store
        self._files = files
        self._deliveries = deliveries
        self._models = models
        self._max_bytes = settings.upload_max_bytes
        self.expiry = timedelta(seconds=settings.upload_expiry_s)
        self._clock = clock
        self.received = asyncio.Event()
        """Set when an upload of this process became whole."""

    async def create(self, caller: Principal, wish: UploadWish, length: int) -> Upload:
        """Raises TooLarge, NotFound for an unknown model or version, InvalidInput, DiskFull."""
        if length > self._max_bytes:
            raise TooLarge(f"An upload has at most {self._max_bytes} bytes.", limit=self._max_bytes)
        image = await self._image(caller, wish, length)
        at = self._clock()
        upload = Upload(
            uuid=records.new_id(),
            org=caller.org,
            created_at=at,
            updated_at=at,
            status_since=at,
            length=length,
            wish=wish,
            image=image.uuid,
            created_by=caller.id,
        )
        try:
            await asyncio.to_thread(self._files.create, upload.uuid)
            upload = await self._store.insert(upload)
        except YardError as error:
            await self._deliveries.fail(image, error)
            await asyncio.to_thread(self._files.remove, upload.uuid)
            raise
        return upload if length else await self.complete(upload)

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

    def view(self, upload: Upload) -> UploadView:
        is_complete = upload.status is UploadStatus.COMPLETED
        offset = self.offset(upload)
        done = 100 if is_complete else upload_progress.percentage(offset, upload.length)
        return UploadView(
            id=upload.uuid,
            offset=offset,
            length=upload.length,
            percentage=done,
            status=upload.status.value.lower(),
            image=upload.result,
            message=upload.reason,
            technicalInformation=upload.technical,
        )

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
                note=meter.note,
            )
            async with meter:
                try:
                    yield appending
                    await appending.finish()
                finally:
                    await tasks.uncut(appending.keep())

    async def complete(self, upload: Upload) -> Upload:
        """All bytes are here: whoever looks after whole uploads goes on with it. Idempotent."""
        try:
            upload = await self._store.change(
                upload, {}, at=self._clock(), status=UploadStatus.INGESTING
            )
        except (LostRace, NotFound):
            return upload  # somebody gave it up, or completed it, at the same moment
        self.received.set()
        return upload

    async def delete(self, caller: Principal, id: str) -> None:
        """Give it up, with what it was about to make. Raises NotFound, Gone."""
        await self.forget(await self.get(caller, id), "The upload was deleted.")

    async def forget(self, upload: Upload, reason: str) -> None:
        """End an upload and, unless it is done, its image. Idempotent."""
        while upload.status is not UploadStatus.DELETED:
            try:
                upload = await self._store.change(
                    upload, {}, at=self._clock(), status=UploadStatus.DELETED, reason=reason
                )
            except LostRace:
                upload = await self._store.get(Upload, upload.uuid, org=upload.org)
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
            delivered = await self._models.begin_archive(
                caller,
                wish.model,
                wish.version,
                platform=wish.platform,
                source=ImageSource.UPLOAD,
                total=length,
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
        name=wish.name,
        filename=wish.filename,
        repo_tag=wish.repo_tag,
        platform=wish.platform,
    )
