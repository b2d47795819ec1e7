"""Keeps an image record telling how much of its archive is here, beside the flow of the bytes."""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from pipeline import tasks
from pipeline.core import records, upload_events
from pipeline.errors import Conflict, LostRace, NotFound, YardError
from pipeline.rules import upload_progress
from schemas.image import Image, Progress
from schemas.states import ImageStatus

if TYPE_CHECKING:
    from pipeline.adapters.store import Store
    from pipeline.core.outbox import Outbox

log = logging.getLogger(__name__)

BEAT_S: Final = 10.0
"""An upload without a new percent shows a sign of life this often."""
AGAIN_S: Final = 1.0
UNDER_WAY: Final = frozenset({ImageStatus.PENDING, ImageStatus.UPLOADING, ImageStatus.VALIDATING})


class Meter:
    """Open it around the flow. At most one event per percent; percentages never fall.

    What the flow notes is written in the background: a slow store does not slow the archive.
    """

    def __init__(self, store: Store, outbox: Outbox, image: Image, clock: records.Clock) -> None:
        self.image = image
        """As it was written last."""
        self._store = store
        self._outbox = outbox
        self._clock = clock
        self._received = image.upload.done_bytes
        self._total = image.upload.total_bytes
        self._percentage = image.upload.percentage
        self._moved = asyncio.Event()
        self._lost: Conflict | None = None
        self._writer: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._writer = asyncio.create_task(self._write(), name=f"meter {self.image.uuid}")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await tasks.uncut(self._end())

    async def note(self, received: int, total: int | None) -> None:
        """Raises Conflict once the image is nobody's concern any more: superseded or deleted."""
        if self._lost is not None:
            raise self._lost
        self._received, self._total = received, total
        percentage = upload_progress.percentage(received, total)
        if percentage > self._percentage or self.image.status is ImageStatus.PENDING:
            self._percentage = max(percentage, self._percentage)
            self._moved.set()

    async def prove(self) -> None:
        """All bytes are here: VALIDATING, and nothing is noted any more. Raises Conflict."""
        self._moved.clear()
        await self._stop()
        while self._lost is None:
            at, before = self._clock(), self.image
            progress = self._progress()
            status = ImageStatus.VALIDATING
            after = before.model_copy(update={"upload": progress, "status": status})
            said = upload_events.validating(after, at=at, revision=before.revision + 1)
            values = {"upload": progress.model_dump()}
            try:
                self.image = await self._store.change(
                    before, values, at=at, status=status, messages=said
                )
            except (LostRace, NotFound):
                await self._reload()
            else:
                await self._outbox.send(self.image)
                return
        raise self._lost

    async def _end(self) -> None:
        """What was noted last is written, too."""
        await self._stop()
        if self._moved.is_set() and self._lost is None:
            await self._is_shown(is_percent=True)

    async def _stop(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            await tasks.end(writer)

    async def _write(self) -> None:
        while self._lost is None:
            is_percent = await self._due()
            # Cut short, it would leave us with a record that we do not know.
            if not await tasks.uncut(self._is_shown(is_percent)):
                await asyncio.sleep(AGAIN_S)

    async def _due(self) -> bool:
        """True for news, False when it is only time for a sign of life."""
        try:
            async with asyncio.timeout(BEAT_S):
                await self._moved.wait()
        except TimeoutError:
            return False
        self._moved.clear()
        return True

    async def _is_shown(self, is_percent: bool) -> bool:
        """False when the store does not take it now. What it raises nobody would hear at an end."""
        try:
            await self._keep(is_percent)
        except (LostRace, NotFound):
            return await self._is_reloaded()
        except YardError as error:
            self._warn(error)
            return False
        return True

    async def _is_reloaded(self) -> bool:
        try:
            await self._reload()
        except YardError as error:
            self._warn(error)
            return False
        return True

    def _warn(self, error: YardError) -> None:
        # Progress is a courtesy; whether the image is stored decides at its end.
        log.warning("progress of %s is not shown: %s", self.image.uuid, error.message)

    async def _keep(self, is_percent: bool) -> None:
        at, before = self._clock(), self.image
        progress = self._progress()
        status = before.status
        if status is ImageStatus.PENDING and self._received:
            status = ImageStatus.UPLOADING
        after = before.model_copy(update={"upload": progress, "status": status})
        values: dict[str, Any] = {"upload": progress.model_dump()}
        said = (
            upload_events.progressed(after, at=at, revision=before.revision + 1)
            if is_percent and progress.percentage > before.upload.percentage
            else []
        )
        self.image = await self._store.change(before, values, at=at, status=status, messages=said)
        await self._outbox.send(self.image)

    def _progress(self) -> Progress:
        known = self.image.upload
        return Progress(
            done_bytes=max(self._received, known.done_bytes),
            total_bytes=self._total,
            percentage=max(self._percentage, known.percentage),
        )

    async def _reload(self) -> None:
        try:
            self.image = await self._store.get(Image, self.image.uuid, org=self.image.org)
        except NotFound:
            self._lost = Conflict("The image was deleted while its archive arrived.")
            return
        if self.image.status not in UNDER_WAY:
            self._lost = Conflict(self.image.reason or "The image was deleted meanwhile.")
        self._moved.set()
