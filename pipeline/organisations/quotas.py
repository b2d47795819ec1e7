"""What an organisation may have at most, held while records that count are made.

What is in use is counted from the records themselves, so that nothing has to be given back. Whoever
makes one that counts notes it as a hold first: at most one hold is taken on top of each counting
(`times_held` is compared), and who counts adds the holds of others. So of two that would pass the
quota together one counts the other. No lock is kept, and the hold of a process that died runs out.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final

from pipeline.adapters.store.store import EVERY_ORG
from pipeline.adapters.store.totals import sums
from pipeline.errors import Overloaded, QuotaExceeded, StoreUnavailable
from pipeline.records.idempotency import new_id
from pipeline.records.kernel import ATTEMPTS, Records
from schemas.container import Container
from schemas.image import Image, ImageSource
from schemas.organisation import Amounts, Organisation, QuotaHold
from schemas.states import ContainerStatus, ImageStatus

log = logging.getLogger(__name__)

HOLD: Final = timedelta(seconds=60)
"""After which the holder is taken for dead; a write takes seconds at most."""
ENDED: Final = frozenset({ContainerStatus.STOPPED, ContainerStatus.FAILED, ContainerStatus.DELETED})
_RUNNING: Final = {"status": {"$in": [each.value for each in ContainerStatus if each not in ENDED]}}
_ARCHIVES: Final = {
    "status": {"$in": [each.value for each in ImageStatus if each is not ImageStatus.DELETED]},
    "source": {"$in": [ImageSource.ARCHIVE.value, ImageSource.UPLOAD.value]},
}
_SENT: Final = {"$max": ["$upload.total_bytes", "$upload.done_bytes"]}
NOUNS: Final = {"gpus": "GPUs", "containers": "containers", "archive_bytes": "bytes of archives"}


class Quotas:
    """Safe for many processes at once."""

    def __init__(self, records: Records) -> None:
        self._store = records.store
        self._clock = records.clock

    @asynccontextmanager
    async def admitted(self, org: str, record: str, wanted: Amounts) -> AsyncIterator[None]:
        """While open, `wanted` counts for `record` (its uuid), which is made within.

        What the record has already does not count twice. Raises QuotaExceeded.
        """
        hold = await self._held(org, record, wanted)
        try:
            yield
        finally:
            if hold is not None:
                await self._release(*hold)

    async def refusal(self, org: str, record: str, wanted: Amounts) -> str | None:
        """Why it would be refused now; None when it would not be."""
        organisation = await self._limited(org, wanted)
        try:
            if organisation is not None:
                await self._require(organisation, record, wanted)
        except QuotaExceeded as error:
            return error.message
        return None

    async def _held(
        self, org: str, record: str, wanted: Amounts
    ) -> tuple[Organisation, QuotaHold] | None:
        hold = QuotaHold(id=new_id(), record=record, until=self._clock() + HOLD, amounts=wanted)
        taken = {"$push": {"holds": hold.model_dump()}, "$inc": {"times_held": 1}}
        for _ in range(ATTEMPTS):
            organisation = await self._limited(org, wanted)
            if organisation is None:
                return None
            await self._require(organisation, record, wanted)
            # Records of before have none.
            counted = organisation.times_held or {"$in": [0, None]}
            if await self._store.update(
                Organisation,
                organisation.uuid,
                org=EVERY_ORG,
                guard={"times_held": counted},
                update=taken,
            ):
                return organisation, hold
        raise Overloaded(f"Too many ask for what {org} may have at the same time: try again.")

    async def _limited(self, org: str, wanted: Amounts) -> Organisation | None:
        """The organisation, when it has a quota of anything that is wanted."""
        found = await self._store.find_one(Organisation, org=EVERY_ORG, where={"slug": org})
        return found if found is not None and _limits(found, wanted) else None

    async def _require(self, organisation: Organisation, record: str, wanted: Amounts) -> None:
        now = self._clock()
        holds = [each for each in organisation.holds if each.until > now and each.record != record]
        used = await self._used(organisation.slug, wanted, [record, *(one.record for one in holds)])
        for name, most in _limits(organisation, wanted).items():
            more = getattr(wanted, name)
            known = used[name] + sum(getattr(hold.amounts, name) for hold in holds)
            if known + more > most:
                raise QuotaExceeded(
                    f"{known} of {most} {NOUNS[name]} are in use, and this needs {more} more.",
                    quota=name,
                    used=known,
                    limit=most,
                )

    async def _used(self, org: str, wanted: Amounts, without: list[str]) -> dict[str, int]:
        others = {"_id": {"$nin": without}}
        used: dict[str, int] = {}
        if wanted.containers or wanted.gpus:
            of_containers: Mapping[str, Any] = {"containers": 1, "gpus": "$spec.gpus"}
            used |= await sums(
                self._store, Container, of_containers, org=org, where=_RUNNING | others
            )
        if wanted.archive_bytes:
            of_archives = {"archive_bytes": _SENT}
            used |= await sums(self._store, Image, of_archives, org=org, where=_ARCHIVES | others)
        return used

    async def _release(self, organisation: Organisation, hold: QuotaHold) -> None:
        over = {"$or": [{"id": hold.id}, {"until": {"$lte": self._clock()}}]}
        update = {"$pull": {"holds": over}}
        try:
            await self._store.update(
                Organisation, organisation.uuid, org=EVERY_ORG, guard={}, update=update
            )
        except StoreUnavailable:
            # What was done under it is done; the hold runs out by itself.
            log.warning("a hold of organisation %s could not be released", organisation.slug)


def of_archive(image: Image) -> Amounts:
    """What an image counts for when its archive begins; of unknown length it has a byte at least.

    What lies in a registry counts for nothing.
    """
    is_archive = image.source is not ImageSource.REFERENCE
    return Amounts(archive_bytes=(image.upload.total_bytes or 1) if is_archive else 0)


def _limits(organisation: Organisation, wanted: Amounts) -> dict[str, int]:
    """Of what is wanted, that has a limit."""
    return {
        name: most
        for name, most in organisation.quotas.model_dump().items()
        if most is not None and getattr(wanted, name)
    }
