"""Gives records that wait for a command the command again, so that a lost message loses nothing."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.adapters.store import EVERY_ORG
from pipeline.core import records
from pipeline.core.containers import order
from pipeline.settings import Settings
from schemas.base import Record
from schemas.container import Container, Desired
from schemas.image import Image, ImageSource
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
ARCHIVES = [ImageSource.ARCHIVE.value, ImageSource.UPLOAD.value]
"""Whoever receives the bytes of these ends them, too."""
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
        listed = {"source": {"$nin": ARCHIVES}, "status": {"$in": IMAGES}}
        for image in await self._find(Image, listed | late):
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
        """Those that were asked for longest ago first, so that each has its turn. What still has
        something to send waits for the broker, not for us."""
        idle = where | {"outbox": []}
        return await self._store.find(
            kind, org=EVERY_ORG, where=idle, sort=[("updated_at", 1)], limit=BATCH
        )

    async def _again(self, record: Record, message: Message) -> None:
        """Without a new revision: a long pull, or a slow check, that is under way after all must
        not lose its next write to this reminder."""
        at = self._clock()
        reminder = message.model_copy(update={"id": f"{message.id}.{at.timestamp():.3f}"})
        changed = await self._store.update(
            type(record),
            record.uuid,
            org=record.org,
            guard={"revision": record.revision, "updated_at": record.updated_at},
            update={"$push": {"outbox": reminder.model_dump()}, "$set": {"updated_at": at}},
        )
        if changed is None:
            return  # it moved after all, or somebody else has just reminded
        log.info("%s %s stood still: %s again", record.resource, record.uuid, message.type)
        await self._outbox.send(changed)


_VERBS = {Desired.RUNNING: "launch", Desired.STOPPED: "stop", Desired.DELETED: "remove"}


def _validate(image: Image, at: datetime) -> Message:
    return records.command(image, "validate", at=at, actor=SWEEPER, revision=image.revision + 1)


def _place(container: Container, at: datetime) -> Message:
    return records.command(
        container, "place", at=at, actor=SWEEPER, revision=container.revision + 1
    )
