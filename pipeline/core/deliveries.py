"""Images that come as archives: the record beside the flow, from the first byte to the outcome.

Of a delivery that fails nothing stays but, where a version of a model waits for it, the reason.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from pipeline import tasks
from pipeline.adapters.store import EVERY_ORG
from pipeline.core import archive_requests, records, upload_events
from pipeline.core.images import DELETED
from pipeline.core.ingest import Ingest
from pipeline.core.ingested import Ingested, Piece, Wish
from pipeline.core.upload_meter import UNDER_WAY, Meter
from pipeline.errors import (
    AlreadyExists,
    Conflict,
    LostRace,
    NotFound,
    StoreUnavailable,
    YardError,
)
from pipeline.rules import image_names, repositories
from pipeline.settings import Settings
from schemas.access import Principal
from schemas.image import Finding, Image, ImageSource, Progress, ReferenceParts, Severity
from schemas.states import ImageStatus

if TYPE_CHECKING:
    from pipeline.adapters.store import Store
    from pipeline.core.outbox import Outbox

log = logging.getLogger(__name__)

WRITE_TRIES: Final = 5
ABANDONED: Final = timedelta(seconds=120)
"""A delivery in one request that shows no sign of life for this long lost its process."""


class Deliveries:
    """Every image acts for its own organisation."""

    def __init__(
        self,
        store: Store,
        outbox: Outbox,
        ingest: Ingest,
        settings: Settings,
        clock: records.Clock,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._ingest = ingest
        self._forgotten = timedelta(seconds=settings.upload_expiry_s) + ABANDONED
        self._clock = clock

    async def begin(
        self,
        caller: Principal,
        wish: Wish,
        *,
        source: ImageSource,
        total: int | None,
        uuid: str | None = None,
    ) -> Image:
        """The record of an image of which nothing is here yet: PENDING.

        Idempotent per `uuid`: raises KeyReused when the repeat asks for something else. Raises
        TooLarge, InvalidInput for a malformed name or platform, AlreadyExists when the name is one
        that somebody chose for an image by reference.
        """
        self._ingest.require_size(total or 0)
        name = archive_requests.require_sound(wish)
        at = self._clock()
        repository = repositories.place(
            caller.org, wish.name, wish.repo_tag, archive_requests.UNNAMED
        ).repository
        image = Image(
            uuid=uuid or records.new_id(),
            org=caller.org,
            created_at=at,
            updated_at=at,
            status_since=at,
            name=name,
            reference=name,
            parts=ReferenceParts(registry=self._ingest.registry, repository=repository),
            requested_platform=wish.platform,
            source=source,
            upload=Progress(total_bytes=total),
            request_hash=archive_requests.fingerprint(wish, source, total),
            created_by=caller.id,
        )
        image.outbox = upload_events.started(image, at=at, actor=caller.id)
        return await self._insert(image, wish.name or wish.repo_tag)

    def meter(self, image: Image) -> Meter:
        """To open around bytes of the image that arrive."""
        return Meter(self._store, self._outbox, image, self._clock)

    async def receive(
        self,
        image: Image,
        stream: AsyncIterator[Piece],
        wish: Wish,
        *,
        length: int | None,
        is_counted: bool = False,
        is_last_try: bool = True,
    ) -> tuple[Image, Ingested]:
        """Bring the archive into the registry and the image to READY.

        An image of a version of a model lies where the version says, whatever is wished.
        `is_counted`: its bytes were noted when they came. Whatever is raised, the delivery is over
        and nothing of it stays; but when it is not the last try and the error is retryable, or it
        was cancelled, the same may be asked again. Raises what `Receiver.receive` raises, and
        Conflict when the image was superseded or deleted meanwhile.
        """
        if image.delivery is not None:
            place = image.parts
            wish = replace(wish, repository=place.repository, tag=place.tag)
        try:
            async with self.meter(image) as meter:

                async def progress(received: int, total: int | None) -> None:
                    known = meter.image.upload
                    counts = (known.done_bytes, known.total_bytes) if is_counted else None
                    await meter.note(*(counts or (received, total)))

                ingested = await self._ingest.receive(
                    stream,
                    org=image.org,
                    wish=wish,
                    length=length,
                    progress=progress,
                    proving=meter.prove,
                )
            return await self._keep(meter.image, ingested, wish), ingested
        except BaseException as error:
            if is_last_try or (isinstance(error, YardError) and not error.retryable):
                await tasks.uncut(self.fail(image, error))
            raise

    async def fail(self, image: Image, error: BaseException) -> None:
        """End a delivery that is under way, and say why. Idempotent."""
        reason, code = _explained(error)
        finding = Finding(code=code, severity=Severity.ERROR, message=reason)
        for _ in range(WRITE_TRIES):
            try:
                image = await self._store.get(Image, image.uuid, org=image.org)
                if image.status not in UNDER_WAY:
                    return
                await self._bury(image, finding)
                return
            except LostRace:
                continue
            except NotFound:
                return
            except StoreUnavailable as unavailable:
                log.warning("image %s waits for its end: %s", image.uuid, unavailable.message)

    async def sweep(self) -> None:
        """End deliveries whose process died. Safe in several workers at once.

        Uploads that can be resumed are ended by whoever keeps their bytes; here go those that
        even that forgot.
        """
        for source, age in (
            (ImageSource.ARCHIVE, ABANDONED),
            (ImageSource.UPLOAD, self._forgotten),
        ):
            where = {
                "source": source.value,
                "status": {"$in": [status.value for status in UNDER_WAY]},
                "updated_at": {"$lt": self._clock() - age},
            }
            for image in await self._store.find(Image, org=EVERY_ORG, where=where, limit=100):
                await self.fail(image, asyncio.CancelledError())

    async def _insert(self, image: Image, asked: str | None) -> Image:
        mine = {"_id": image.uuid}
        if earlier := await self._store.find_one(Image, org=image.org, where=mine):
            return archive_requests.replayed(earlier, image)
        if asked is not None:
            await archive_requests.refuse_chosen(self._store, image.org, asked)
        try:
            image = await self._store.insert(image)
        except AlreadyExists:
            earlier = await self._store.get(Image, image.uuid, org=image.org)
            return archive_requests.replayed(earlier, image)
        await self._outbox.send(image)
        return image

    async def _keep(self, image: Image, ingested: Ingested, wish: Wish) -> Image:
        """The image as READY. When that cannot be, its tag is taken back."""
        values = _values(image, ingested, wish)
        try:
            return await self._settle(image, ingested, values)
        except BaseException:
            await tasks.uncut(self._ingest.withdraw(image.org, ingested))
            raise

    async def _settle(self, image: Image, ingested: Ingested, values: dict[str, Any]) -> Image:
        for tries_left in reversed(range(WRITE_TRIES)):
            try:
                return await self._ready(image, values)
            except LostRace:
                image = await self._store.get(Image, image.uuid, org=image.org)
            except NotFound:
                raise Conflict(DELETED) from None
            except StoreUnavailable:
                if not tries_left:
                    raise
            if image.status is ImageStatus.READY and image.digest == ingested.digest:
                return image  # an earlier try got through, and its answer did not
            if image.status not in UNDER_WAY:
                raise Conflict(image.reason or DELETED)
        raise Conflict("The image is changed too often to be finished: send it again.")

    async def _ready(self, image: Image, values: dict[str, Any]) -> Image:
        at, status = self._clock(), ImageStatus.READY
        after = Image.model_validate(dict(image) | values | {"status": status, "reason": None})
        said = upload_events.settled(after, at=at, revision=image.revision + 1)
        image = await self._store.change(
            image, values, at=at, status=status, reason=None, messages=said
        )
        await self._outbox.send(image)
        return image

    async def _bury(self, image: Image, finding: Finding) -> None:
        at, status = self._clock(), ImageStatus.DELETED
        change = {"status": status, "reason": finding.message, "findings": [finding]}
        after = image.model_copy(update=change)
        image = await self._store.change(
            image,
            {"findings": [finding.model_dump()]},
            at=at,
            status=status,
            reason=finding.message,
            messages=upload_events.settled(after, at=at, revision=image.revision + 1),
        )
        if await self._outbox.send(image) and image.delivery is None:
            await self._store.delete(Image, image.uuid, org=image.org)


def _values(image: Image, ingested: Ingested, wish: Wish) -> dict[str, Any]:
    received = max(image.upload.done_bytes, ingested.received_bytes)
    done = Progress(done_bytes=received, total_bytes=received, percentage=100)
    name = image.name
    if image.delivery is None:
        archived = image_names.shown(next(iter(ingested.repo_tags), None))
        name = wish.name or wish.repo_tag or archived or ingested.reference
    return {
        "name": name,
        "reference": ingested.reference,
        "parts": ingested.parts.model_dump(),
        "pinned": ingested.pinned,
        "digest": ingested.digest,
        "platform": ingested.platform.model_dump(),
        "size_bytes": ingested.size_bytes,
        "needs": (image.requested_needs or ingested.needs).model_dump(),
        "image_labels": dict(ingested.image_labels),
        "image_annotations": dict(ingested.image_annotations),
        "has_healthcheck": ingested.has_healthcheck,
        "findings": [finding.model_dump() for finding in ingested.findings],
        "upload": done.model_dump(),
    }


def _explained(error: BaseException) -> tuple[str, str]:
    """In words and as a code; what is no error of ours is not shown."""
    if isinstance(error, YardError):
        return error.message, error.code
    if isinstance(error, asyncio.CancelledError):
        return "The server that received the archive stopped: send it again.", "interrupted"
    return "Something went wrong on our side while the archive arrived.", "internal_error"
