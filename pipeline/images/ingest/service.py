"""Images that come as archives: the record beside the flow, from the first byte to the outcome.

Of a delivery that fails nothing stays but, where a version of a model waits for it, the reason.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, TypeVar

from pipeline import concurrency
from pipeline.adapters.store.store import EVERY_ORG, Store
from pipeline.errors import (
    AlreadyExists,
    Conflict,
    InvalidInput,
    NotFound,
    StoreUnavailable,
    YardError,
)
from pipeline.images import delivery_events, findings
from pipeline.images.ingest.ingest import (
    Arrived,
    Complete,
    Ingest,
    Ingested,
    IngestStep,
    Placed,
    Wish,
)
from pipeline.images.ingest.progress import UNDER_WAY, Meter
from pipeline.images.service import DELETED
from pipeline.oci import platforms, repositories
from pipeline.organisations.quotas import Quotas, of_archive
from pipeline.own_registry.fence import Push, RegistryFence
from pipeline.records.idempotency import fingerprint, replayed
from pipeline.records.kernel import Change, Records, living
from pipeline.records.messages import command, event
from pipeline.settings import Settings
from schemas.access import Principal
from schemas.base import Progress
from schemas.image import Finding, Image, ImageSource, ReferenceParts, Severity
from schemas.organisation import Amounts
from schemas.states import ImageStatus

T = TypeVar("T")
log = logging.getLogger(__name__)

WRITE_TRIES: Final = 5
ABANDONED: Final = timedelta(seconds=120)
"""A delivery in one request that shows no sign of life for this long lost its process."""


class Deliveries:
    """Every image acts for its own organisation."""

    def __init__(
        self, records: Records, ingest: Ingest, fence: RegistryFence, settings: Settings
    ) -> None:
        self._records = records
        self._fence = fence
        self._quotas = Quotas(records)
        self._store = records.store
        self._ingest = ingest
        self._interval_s = settings.progress_interval_s
        self._forgotten = timedelta(seconds=settings.upload_expiry_s) + ABANDONED

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
        TooLarge, InvalidInput for a malformed name or platform, QuotaExceeded, AlreadyExists when
        the name is one that somebody chose for an image by reference.
        """
        self._ingest.require_size(total or 0)
        name = require_sound(wish)
        place = repositories.place(caller.org, wish.name, wish.repo_tag, UNNAMED)
        image = Image(
            **self._records.initial(caller.org, uuid),
            name=name,
            reference=name,
            parts=ReferenceParts(registry=self._ingest.registry, repository=place.repository),
            requested_platform=wish.platform,
            source=source,
            upload=Progress(total_bytes=total),
            request_hash=fingerprint(request_of(wish, source, total)),
            created_by=caller.id,
        )
        return await self._insert(image, wish.name or wish.repo_tag)

    def meter(self, image: Image) -> Meter:
        """To open around bytes of the image that arrive."""
        return Meter(self._records, image, interval_s=self._interval_s)

    async def receive(
        self,
        image: Image,
        stream: AsyncIterator[bytes],
        wish: Wish,
        *,
        length: int | None,
        is_last_try: bool = True,
    ) -> tuple[Image, Ingested]:
        """Bring the archive into the registry and the image to READY.

        An image of a version of a model lies where the version says, whatever is wished.
        Bytes that were noted when they came are not counted again. Whatever is raised, the delivery
        is over and nothing of it stays; but when it is not the last try and the error is retryable,
        or it was cancelled, the same may be asked again. Raises what `Ingest.receive` raises,
        RegistryUnavailable while the registry's space is collected, QuotaExceeded for one that did
        not say its length before, and Conflict when the image was superseded or deleted meanwhile.
        """
        if image.delivery is not None:
            place = image.parts
            wish = replace(wish, repository=place.repository, tag=place.tag)
        try:
            steps = self._ingest.receive(stream, org=image.org, wish=wish)
            async with self._fence.pushing() as push:
                async with self.meter(image) as meter, aclosing(steps):
                    ingested = await _followed(steps, meter, push, length)
                return await self._keep(meter.image, ingested, wish), ingested
        except BaseException as error:
            if is_last_try or (isinstance(error, YardError) and not error.retryable):
                await concurrency.run_to_completion(self.fail(image, error))
            raise

    async def fail(self, image: Image, error: BaseException) -> None:
        """End a delivery that is under way, and say why. Idempotent."""
        reason, code = _explained(error)
        finding = Finding(code=code, severity=Severity.ERROR, message=reason)
        try:
            await _insist(partial(self._end, image, finding))
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
                "updated_at": {"$lt": self._records.clock() - age},
            }
            for image in await self._store.find(Image, org=EVERY_ORG, where=where, limit=100):
                await self.fail(image, asyncio.CancelledError())

    async def _insert(self, image: Image, asked: str | None) -> Image:
        if earlier := await self._store.find_by_id(Image, image.uuid, org=image.org):
            return replayed(earlier, image.request_hash)
        if asked is not None:
            await refuse_chosen(self._store, image.org, asked)
        send = [event("created"), delivery_events.upload("started")]
        async with self._quotas.admitted(image.org, image.uuid, of_archive(image)):
            return await self._records.insert_once(image, send, actor=image.created_by)

    async def _keep(self, image: Image, ingested: Ingested, wish: Wish) -> Image:
        """The image as READY. When that cannot be, its tag is taken back."""

        def decide(current: Image, at: datetime) -> Change | None:
            if current.status is ImageStatus.READY and current.digest == ingested.image.digest:
                return None  # an earlier try got through, and its answer did not
            if current.status not in UNDER_WAY:
                raise Conflict(current.reason or DELETED)
            return _ready(current, ingested, wish)

        try:
            write = partial(self._records.amend, image, decide, actor=image.created_by)
            # What said how long it is was admitted when it began.
            said = image.upload.total_bytes is not None
            more = Amounts(archive_bytes=0 if said else ingested.received_bytes)
            async with self._quotas.admitted(image.org, image.uuid, more):
                return await _insist(write)
        except BaseException as error:
            await concurrency.run_to_completion(self._ingest.withdraw(image.org, ingested))
            if isinstance(error, NotFound):
                raise Conflict(DELETED) from None
            raise

    async def _end(self, image: Image, finding: Finding) -> None:
        def decide(current: Image, at: datetime) -> Change | None:
            return _failed(current, finding) if current.status in UNDER_WAY else None

        image = await self._store.get(Image, image.uuid, org=image.org)
        image = await self._records.amend(image, decide, actor=image.created_by)
        is_ours = image.status is ImageStatus.DELETED and image.findings == [finding]
        if is_ours and image.delivery is None:
            await self._records.purge(image)


async def _followed(
    steps: AsyncIterator[IngestStep], meter: Meter, push: Push, length: int | None
) -> Ingested:
    async for step in steps:
        match step:
            case Arrived(count):
                meter.note(count, length)
            case Complete():
                await meter.begin_validation()
            case Placed(repository, digest):
                await push.claim(repository, digest)
            case Ingested():
                return step
    raise AssertionError("the last step is the outcome")


async def _insist(write: Callable[[], Awaitable[T]]) -> T:
    """Again while the store does not answer: what it is not told now, nobody can tell it later."""
    for _ in range(WRITE_TRIES - 1):
        try:
            return await write()
        except StoreUnavailable as error:
            log.warning("tried again: %s", error.message)
    return await write()


def _failed(image: Image, finding: Finding) -> Change:
    """Nothing is kept of it but the reason."""
    facts = {"digest": image.digest, "size_bytes": image.size_bytes}
    return Change(
        {"findings": [finding]},
        status=ImageStatus.DELETED,
        reason=finding.message,
        send=[event("failed", **facts), delivery_events.upload("failed", **facts)],
    )


def _ready(image: Image, ingested: Ingested, wish: Wish) -> Change:
    facts = {"digest": ingested.image.digest, "size_bytes": ingested.image.size_bytes}
    return Change(
        _values(image, ingested, wish),
        status=ImageStatus.READY,
        reason=None,
        send=[
            event("ready", **facts),
            delivery_events.upload("completed", **facts),
            command("supersede"),
        ],
    )


def _values(image: Image, ingested: Ingested, wish: Wish) -> dict[str, Any]:
    received = max(image.upload.done_bytes, ingested.received_bytes)
    name = image.name
    if image.delivery is None:
        archived = shown(next(iter(ingested.repo_tags), None))
        name = wish.name or wish.repo_tag or archived or _placed(ingested)
    return findings.facts(image, ingested.image) | {
        "name": name,
        "reference": ingested.reference,
        "parts": ingested.image.parts,
        "findings": ingested.findings,
        "upload": Progress(done_bytes=received, total_bytes=received, percentage=100),
    }


def _placed(ingested: Ingested) -> str:
    parts = ingested.image.parts
    return repositories.shown(parts.repository, parts.tag)


def _explained(error: BaseException) -> tuple[str, str]:
    """In words and as a code; what is no error of ours is not shown."""
    if isinstance(error, YardError):
        return error.message, error.code
    if isinstance(error, asyncio.CancelledError):
        return "The server that received the archive stopped: send it again.", "interrupted"
    return "Something went wrong on our side while the archive arrived.", "internal_error"


# --- What somebody asks for who is about to send an archive: checked before its first byte

UNNAMED: Final = "upload"
NAME_MAX: Final = 255
REPO_TAG_MAX: Final = 512


def require_sound(wish: Wish) -> str:
    """What the image is called until its archive tells. Raises InvalidInput, naming the field."""
    if wish.name is not None:
        require(wish.name, "name")
    if wish.repo_tag is not None:
        require(wish.repo_tag, "repoTag", most=REPO_TAG_MAX)
    if wish.platform:
        platforms.parse(wish.platform)
    return wish.name or wish.repo_tag or shown(wish.filename) or UNNAMED


def request_of(wish: Wish, source: ImageSource, length: int | None) -> dict[str, Any]:
    """What tells a retry from a reused key, as far as that is known before the archive is here."""
    said = {"name": wish.name, "filename": wish.filename, "repo_tag": wish.repo_tag}
    return said | {"source": source, "length": length, "platform": wish.platform}


async def refuse_chosen(store: Store, org: str, name: str) -> None:
    """Pushes of one name replace each other; what was named by reference is not replaced.

    Raises AlreadyExists.
    """
    chosen = living(ImageStatus.DELETED, name=name, named=True)
    if await store.find_one(Image, org=org, where=chosen):
        raise AlreadyExists(
            f"An image submitted by reference is named {name}: delete it or choose another name."
        )


def require(text: str, field: str, *, most: int = NAME_MAX) -> None:
    """Raises InvalidInput for a text that is empty, too long or not printable."""
    if not 1 <= len(text) <= most or not text.isprintable():
        raise InvalidInput(f"{field} needs 1 to {most} printable characters.", field=field)


def shown(text: str | None) -> str:
    """What can be shown of a name that nobody chose, a file's or one that an archive holds."""
    printable = (character for character in text or "" if character.isprintable())
    return "".join(printable)[:NAME_MAX]
