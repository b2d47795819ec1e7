"""Keeps an image record telling how much of its archive is here, beside the flow of the bytes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from types import TracebackType
from typing import Final, Self

from pipeline import concurrency
from pipeline.errors import Conflict, NotFound, YardError
from pipeline.images import delivery_events
from pipeline.records.kernel import Change, Records
from pipeline.records.messages import event
from pipeline.telemetry import TRANSFERRED, count
from schemas.base import Progress
from schemas.image import Image
from schemas.states import ImageStatus

log = logging.getLogger(__name__)

BEAT_S: Final = 10.0
"""An upload without a new percent shows a sign of life this often."""
AGAIN_S: Final = 1.0
UNDER_WAY: Final = frozenset({ImageStatus.PENDING, ImageStatus.UPLOADING, ImageStatus.VALIDATING})
MOST_BEFORE_READY: Final = 99
"""All bytes may be here: 100 says that the image is stored and proved."""


class Meter:
    """Open it around the flow. At most one event per percent and `interval_s`, besides changes of
    state, over all meters of an image; percentages never fall.

    What the flow notes is written in the background: a slow store does not slow the archive.
    """

    def __init__(self, records: Records, image: Image, *, interval_s: float = 1) -> None:
        self.image = image
        """As it was written last."""
        self.received = image.upload.done_bytes
        self.total = image.upload.total_bytes
        self._records = records
        self._interval = timedelta(seconds=interval_s)
        self._percentage = image.upload.percentage
        self._moved = asyncio.Event()
        self._lost: Conflict | None = None
        self._writer: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._writer = asyncio.create_task(self._write_often(), name=f"meter {self.image.uuid}")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await concurrency.run_to_completion(self._end())

    def note(self, received: int, total: int | None) -> None:
        """Raises Conflict once the image is nobody's concern any more: superseded or deleted."""
        if self._lost is not None:
            raise self._lost
        count(TRANSFERRED, "archive", by=max(received - self.received, 0))
        self.received, self.total = received, total
        whole = percentage(received, total)
        if whole > self._percentage or self.image.status is ImageStatus.PENDING:
            self._percentage = max(whole, self._percentage)
            self._moved.set()

    async def begin_validation(self) -> None:
        """All bytes are here: VALIDATING, and nothing is noted any more. Raises Conflict."""
        self._moved.clear()
        await self._stop()
        if self._lost is None:
            await self._write(self._validating)
        if self._lost is not None:
            raise self._lost

    async def _end(self) -> None:
        """What was noted last is written, too."""
        await self._stop()
        if self._moved.is_set() and self._lost is None:
            await self._is_shown()

    async def _stop(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            await concurrency.cancel_and_wait(writer)

    async def _write_often(self) -> None:
        while self._lost is None:
            await self._due()
            # Cut short, it would leave us with a record that we do not know.
            if not await concurrency.run_to_completion(self._is_shown()):
                await asyncio.sleep(AGAIN_S)

    async def _due(self) -> None:
        """Returns with news, when news was not told yet, and when it is time for a sign of life."""
        await concurrency.comes_within(self._moved, self._beat_s())
        self._moved.clear()

    def _beat_s(self) -> float:
        is_owed = self.image.upload.percentage > self.image.upload_told
        return min(BEAT_S, self._interval.total_seconds() or BEAT_S) if is_owed else BEAT_S

    async def _is_shown(self) -> bool:
        """False when the store does not take it now. What it raises nobody would hear at an end."""
        try:
            await self._write(self._counted)
        except YardError as error:
            # Progress is a courtesy; whether the image is stored decides at its end.
            log.warning("progress of %s is not shown: %s", self.image.uuid, error.message)
            return False
        return True

    async def _write(self, change: Callable[[Image, datetime], Change]) -> None:
        """Raises what the store does; that the image is over is kept for who notes next."""

        def decide(image: Image, at: datetime) -> Change | None:
            if image.status not in UNDER_WAY:
                self._lost = Conflict(image.reason or "The image was deleted meanwhile.")
                return None
            return change(image, at)

        try:
            actor = self.image.created_by
            self.image = await self._records.amend(self.image, decide, actor=actor)
        except NotFound:
            self._lost = Conflict("The image was deleted while its archive arrived.")

    def _validating(self, image: Image, at: datetime) -> Change:
        values = {"upload": self._progress(image)}
        return Change(values, status=ImageStatus.VALIDATING, send=[event("validating")])

    def _counted(self, image: Image, at: datetime) -> Change:
        progress, status = self._progress(image), image.status
        if status is ImageStatus.PENDING and self.received:
            status = ImageStatus.UPLOADING
        told_at = image.upload_told_at
        is_due = told_at is None or at - told_at >= self._interval or status is not image.status
        if progress.percentage <= image.upload_told or not is_due:
            return Change({"upload": progress}, status=status)
        told = {"upload_told": progress.percentage, "upload_told_at": at}
        send = [delivery_events.upload("progressed")]
        return Change({"upload": progress, **told}, status=status, send=send)

    def _progress(self, image: Image) -> Progress:
        return Progress(
            done_bytes=max(self.received, image.upload.done_bytes),
            total_bytes=self.total,
            percentage=max(self._percentage, image.upload.percentage),
        )


def percentage(received: int, total: int | None) -> int:
    """0 to 99. With an unknown total it stays 0."""
    return min(MOST_BEFORE_READY, received * 100 // total) if total else 0
