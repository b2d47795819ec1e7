"""Whole uploads on their way into the registry, and the end of those that nobody continues.

Runs beside the files, in every server process; the lock of a file decides which one does it. A
process that dies leaves the upload INGESTING and its file unlocked: another one begins again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import BinaryIO, Final

from pipeline import concurrency
from pipeline.adapters.disk.upload_files import UploadFiles
from pipeline.adapters.store.store import EVERY_ORG
from pipeline.errors import Conflict, NotFound, YardError
from pipeline.images.ingest.service import Deliveries
from pipeline.records.kernel import Change, Records
from pipeline.records.sweeping import one_by_one
from pipeline.uploads.service import Uploads, asked
from schemas.image import Image, Upload, UploadedImage
from schemas.states import ImageStatus, UploadStatus

log = logging.getLogger(__name__)

LOOK_S: Final = 5.0
"""How often uploads are looked for that another process left."""
SWEEP_S: Final = 60.0
AT_ONCE: Final = 4
READ_BYTES: Final = 1024 * 1024
ORPHAN_S: Final = 3600.0
"""A file without a record is older than this when it is removed: records come second."""
RETRY_BASE_S: Final = 2.0
RETRY_CAP_S: Final = 60.0
EXPIRED: Final = "The upload has expired: nothing came for too long."


class UploadIngest:
    """One per process."""

    def __init__(
        self, records: Records, files: UploadFiles, uploads: Uploads, deliveries: Deliveries
    ) -> None:
        self._records = records
        self._store = records.store
        self._files = files
        self._uploads = uploads
        self._deliveries = deliveries
        self._clock = records.clock
        self._working: dict[str, asyncio.Task[None]] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While open, whole uploads go on. What is cut short goes on with the next process."""
        loops = [
            asyncio.create_task(self._look(), name="upload ingest"),
            asyncio.create_task(self._sweep_often(), name="upload sweep"),
        ]
        try:
            yield
        finally:
            await concurrency.cancel_and_wait(*loops)
            await concurrency.cancel_and_wait(*self._working.values())

    async def sweep(self) -> None:
        """End what expired, complete what a crash left whole, remove what nobody knows."""
        for id in await asyncio.to_thread(lambda: list(self._files.ids())):
            upload = await self._store.find_by_id(Upload, id, org=EVERY_ORG)
            await self._tend(id, upload)
        old = {"status_since": {"$lt": self._clock() - self._uploads.expiry}}
        found = await self._store.find(Upload, org=EVERY_ORG, where=old, sort=[], limit=500)
        await one_by_one(found, self._retire)

    async def ingest(self, upload: Upload) -> None:
        """Bring one into the registry, unless somebody does already. Idempotent."""
        try:
            with self._files.locked(upload.uuid) as file:
                upload = await self._store.get(Upload, upload.uuid, org=upload.org)
                if upload.status is UploadStatus.INGESTING:
                    outcome = await self._outcome(upload, file)
                    upload = await self._records.commit(upload, outcome)
                if upload.status is not UploadStatus.INGESTING:
                    self._files.remove(upload.uuid)
        except (Conflict, NotFound):
            return  # another process has it, or it is on another host

    async def _look(self) -> None:
        while True:
            try:
                await self._begin()
            except YardError as error:
                log.warning("uploads wait: %s", error.message)
            if await concurrency.comes_within(self._uploads.received, LOOK_S):
                self._uploads.received.clear()

    async def _begin(self) -> None:
        waiting = {
            "status": UploadStatus.INGESTING.value,
            "retry_at": {"$not": {"$gt": self._clock()}},
        }
        oldest = (("status_since", 1),)
        for upload in await self._store.find(Upload, org=EVERY_ORG, where=waiting, sort=oldest):
            if len(self._working) >= AT_ONCE:
                return
            if upload.uuid not in self._working and self._files.size(upload.uuid) is not None:
                task = asyncio.create_task(self._work(upload), name=f"ingest {upload.uuid}")
                self._working[upload.uuid] = task

    async def _work(self, upload: Upload) -> None:
        try:
            await self.ingest(upload)
        except YardError as error:
            log.warning("upload %s waits: %s", upload.uuid, error.message)
        finally:
            del self._working[upload.uuid]
            self._uploads.received.set()

    async def _outcome(self, upload: Upload, file: BinaryIO) -> Change:
        image = await self._store.find_by_id(Image, upload.image, org=upload.org)
        if image is None or image.status is ImageStatus.DELETED:
            why = image.reason if image else None
            return _failed(Conflict(why or "The image was deleted meanwhile."))
        if image.status is ImageStatus.READY:
            return _completed(image)
        assert upload.status_since is not None, "records of the store have it"
        is_last_try = self._clock() >= upload.status_since + self._uploads.expiry
        try:
            image, _ = await self._deliveries.receive(
                image,
                _pieces(file),
                asked(upload.wish),
                length=upload.length,
                is_last_try=is_last_try,
            )
        except YardError as error:
            if error.retryable and not is_last_try:
                return self._later(upload, error)
            return _failed(error)
        return _completed(image)

    def _later(self, upload: Upload, error: YardError) -> Change:
        attempts = upload.attempts + 1
        delay = timedelta(seconds=min(RETRY_CAP_S, RETRY_BASE_S * 2 ** min(attempts, 10)))
        log.warning("upload %s is tried again in %s: %s", upload.uuid, delay, error.message)
        at = self._clock() + delay
        return Change({"attempts": attempts, "retry_at": at, "technical": _technical(error)})

    async def _sweep_often(self) -> None:
        while True:
            try:
                await self.sweep()
            except YardError as error:
                log.warning("uploads are not swept: %s", error.message)
            await asyncio.sleep(SWEEP_S)

    async def _tend(self, id: str, upload: Upload | None) -> None:
        if upload is None:
            touched = self._files.touched_at(id)
            if touched is not None and touched < self._clock().timestamp() - ORPHAN_S:
                self._files.remove(id)
        elif upload.status in _ENDED:
            self._files.remove(id)
        elif upload.status is UploadStatus.RECEIVING:
            if self._uploads.expires_at(upload) <= self._clock():
                await self._uploads.forget(upload, EXPIRED)
            elif self._uploads.offset(upload) == upload.length:
                await self._uploads.complete(upload)

    async def _retire(self, upload: Upload) -> None:
        """Its time is over: an end is told for as long as an upload lives."""
        if upload.status in _ENDED:
            await self._store.delete(Upload, upload.uuid, org=upload.org)
        elif upload.status is UploadStatus.RECEIVING and self._files.size(upload.uuid) is None:
            await self._uploads.forget(upload, EXPIRED)


def _completed(image: Image) -> Change:
    assert image.digest is not None, "a READY image is pinned"
    result = UploadedImage(name=image.name, reference=image.reference, digest=image.digest)
    values = {"result": result, "retry_at": None, "technical": None}
    return Change(values, status=UploadStatus.COMPLETED)


def _failed(error: YardError) -> Change:
    values = {"technical": _technical(error), "retry_at": None}
    return Change(values, status=UploadStatus.FAILED, reason=error.message)


def _technical(error: YardError) -> str:
    return f"{error.code}: {error.message}"


_ENDED = frozenset({UploadStatus.COMPLETED, UploadStatus.FAILED, UploadStatus.DELETED})


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    """The whole file, read in threads, one piece ahead."""
    file.seek(0)
    reading = asyncio.ensure_future(asyncio.to_thread(file.read, READ_BYTES))
    while piece := await reading:
        reading = asyncio.ensure_future(asyncio.to_thread(file.read, READ_BYTES))
        yield piece
