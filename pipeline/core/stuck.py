"""Gives records that wait for a command the command again, so that a lost message loses nothing."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.adapters.store import EVERY_ORG
from pipeline.core import records
from pipeline.core.containers import order
from pipeline.errors import LostRace
from pipeline.settings import Settings
from schemas.base import Record
from schemas.container import Container, Desired
from schemas.image import Image
from schemas.message import Message
from schemas.states import ContainerStatus, ImageStatus

if TYPE_CHECKING:
    from pipeline.adapters.store import Store
    from pipeline.core.outbox import Outbox

log = logging.getLogger(__name__)

R = TypeVar("R", bound=Record)

SWEEPER = "worker:stuck"
BATCH = 200
IMAGES = [ImageStatus.PENDING.value, ImageStatus.VALIDATING.value]
LAUNCHING = [
    ContainerStatus.PLACED.value,
    ContainerStatus.PULLING.value,
    ContainerStatus.CREATED.value,
]


class Stuck:
    """State is truth and messages are hints: what stands still too long is asked for again."""

    def __init__(
        self,
        store: Store,
        outbox: Outbox,
        settings: Settings,
        clock: records.Clock,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._stuck_after = timedelta(seconds=settings.stuck_after_s)
        self._retry_placement = timedelta(seconds=settings.sweep_interval_s)
        self._clock = clock

    async def sweep(self) -> None:
        """Safe to repeat and to run in several workers at once."""
        now = self._clock()
        late = {"updated_at": {"$lt": now - self._stuck_after}}
        for image in await self._find(Image, {"status": {"$in": IMAGES}} | late):
            await self._again(image, _validate(image, now))
        waiting = {
            "status": ContainerStatus.REQUESTED.value,
            "updated_at": {"$lt": now - self._retry_placement},
        }
        for container in await self._find(Container, waiting):
            await self._again(container, _place(container, now))
        for container in await self._find(Container, {"status": {"$in": LAUNCHING}} | late):
            verb = _VERBS[container.desired]
            await self._again(container, order(container, verb, at=now, actor=SWEEPER))

    async def _find(self, kind: type[R], where: dict[str, Any]) -> list[R]:
        return await self._store.find(kind, org=EVERY_ORG, where=where, sort=[], limit=BATCH)

    async def _again(self, record: Record, message: Message) -> None:
        try:
            changed = await self._store.change(record, {}, at=self._clock(), messages=[message])
        except LostRace:
            return  # it moved after all
        log.info("%s %s stood still: %s again", record.resource, record.uuid, message.type)
        await self._outbox.send(changed)


_VERBS = {Desired.RUNNING: "launch", Desired.STOPPED: "stop", Desired.DELETED: "remove"}


def _validate(image: Image, at: datetime) -> Message:
    return records.command(image, "validate", at=at, actor=SWEEPER, revision=image.revision + 1)


def _place(container: Container, at: datetime) -> Message:
    return records.command(
        container, "place", at=at, actor=SWEEPER, revision=container.revision + 1
    )
