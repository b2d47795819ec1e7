"""What workers do about builds: a built image goes into the platform's registry like every archive
that is sent, and what nobody ends any more is ended."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Final

from pipeline import topology
from pipeline.access.roles import acting_for
from pipeline.adapters.bus.client import Bus
from pipeline.adapters.store.store import EVERY_ORG
from pipeline.builds import specs
from pipeline.builds.specs import BUILT, BuiltRequest, failed
from pipeline.errors import BuildFailed, BusUnavailable, LostRace, NotFound, Timeout, YardError
from pipeline.images.ingest.ingest import Wish
from pipeline.images.ingest.progress import UNDER_WAY
from pipeline.images.ingest.service import ABANDONED, Deliveries
from pipeline.records.idempotency import id_for
from pipeline.records.kernel import Change, Records
from pipeline.records.messages import command, event
from pipeline.records.sweeping import one_by_one
from pipeline.settings import Settings
from schemas.image import Build, Image, ImageSource
from schemas.node import Node
from schemas.states import BuildStatus, ImageStatus, NodeStatus

log = logging.getLogger(__name__)

IDLE_S: Final = 60
PUBLISHER: Final = "worker:builds"
SWEPT: Final = 100
OVER: Final = {"$in": [BuildStatus.DONE.value, BuildStatus.FAILED.value]}
LATE: Final = timedelta(seconds=300)
"""After its time is over somebody else than its agent ends it."""


class Publishing:
    """load → slow work holding nothing → guarded write. Safe in several workers at once."""

    def __init__(
        self, records: Records, bus: Bus, deliveries: Deliveries, settings: Settings
    ) -> None:
        self._records = records
        self._store = records.store
        self._bus = bus
        self._deliveries = deliveries
        self._stuck = timedelta(seconds=settings.stuck_after_s)
        self._overdue = timedelta(seconds=settings.build_timeout_s) + LATE
        self._kept = timedelta(days=settings.build_max_age_days)

    async def publish(self, org: str, uuid: str, *, last_try: bool) -> None:
        """Have a built image listed. Idempotent: a build that is not PUSHING is left alone.

        Raises what another try may help against; anything else, and all of the last try, becomes
        the reason of a FAILED build.
        """
        build = await self._store.find_by_id(Build, uuid, org=org)
        if build is None or build.status is not BuildStatus.PUSHING:
            return
        try:
            image = await self._stored(build, last_try=last_try)
        except LostRace:
            raise
        except YardError as error:
            if error.retryable and not last_try:
                raise
            await self._end(build, failed(error.message, error.code, specs.look))
            return
        except Exception:
            if last_try:
                reason = "Its image could not be stored: see the dead letters for the cause."
                await self._end(build, failed(reason, "error", specs.look))
            raise
        done = event("done", digest=image.digest)
        change = Change({"image": image.uuid}, BuildStatus.DONE, None, [done, specs.look])
        await self._end(build, change)

    async def sweep(self) -> None:
        """End what its node does not end any more, remind of what stands still, and forget what has
        been over for long."""
        at = self._records.clock()
        old = {"updated_at": {"$lt": at - self._stuck}, "outbox": []}
        for status, treat in (
            (BuildStatus.QUEUED, self._end_lost),
            (BuildStatus.BUILDING, self._end_lost),
            (BuildStatus.PUSHING, self._remind),
        ):
            found = await self._store.find(
                Build,
                org=EVERY_ORG,
                where={"status": status.value, **old},
                sort=[("updated_at", 1)],
                limit=SWEPT,
            )
            await one_by_one(found, treat)
        forgotten = {"status": OVER, "updated_at": {"$lt": at - self._kept}, "outbox": []}
        old_ones = await self._store.find(
            Build, org=EVERY_ORG, where=forgotten, sort=[("updated_at", 1)], limit=SWEPT
        )
        await one_by_one(old_ones, self._forget)

    async def _forget(self, build: Build) -> None:
        await self._store.delete(Build, build.uuid, org=build.org)

    async def _stored(self, build: Build, *, last_try: bool) -> Image:
        wish = Wish(name=build.name)
        image = await self._deliveries.begin(
            acting_for(build.org, build.created_by),
            wish,
            source=ImageSource.ARCHIVE,
            total=None,
            uuid=_image_of(build),
        )
        if image.status is ImageStatus.READY:
            return image
        async with aclosing(self._image(build)) as stream:
            image, _ = await self._deliveries.receive(
                image, stream, wish, length=None, is_last_try=last_try
            )
        return image

    async def _image(self, build: Build) -> AsyncGenerator[bytes, None]:
        subject = topology.agent_service(build.node, BUILT)
        asked = BuiltRequest(build=build.uuid).model_dump_json().encode()
        try:
            async with aclosing(self._bus.request_stream(subject, asked, idle_s=IDLE_S)) as pieces:
                async for piece in pieces:
                    yield piece
        except NotFound as error:
            raise BuildFailed("Its node has lost the image: build it again.") from error
        except Timeout as error:
            raise BusUnavailable(error.message) from error

    async def _end(self, build: Build, change: Change) -> None:
        def decide(build: Build, at: datetime) -> Change | None:
            return change if build.status is BuildStatus.PUSHING else None

        await self._records.amend(build, decide, actor=PUBLISHER)

    async def _end_lost(self, build: Build) -> None:
        """Its agent looks at what is queued or under way whenever it can."""
        node = await self._store.find_by_id(Node, build.node, org=EVERY_ORG)
        is_gone = node is None or node.status in (NodeStatus.LOST, NodeStatus.DELETED)
        since = build.status_since or build.updated_at
        is_late = build.status is BuildStatus.BUILDING and (
            since < self._records.clock() - self._overdue
        )
        if not (is_gone or is_late):
            return
        reason = f"Its node {build.node_name} was lost: build it again."
        change = failed(reason, "node_lost", specs.look, last_lines=build.last_lines)

        def decide(now: Build, at: datetime) -> Change | None:
            return change if now.status is build.status else None

        await self._records.amend(build, decide, actor=PUBLISHER)

    async def _remind(self, build: Build) -> None:
        image = await self._store.find_by_id(Image, _image_of(build), org=build.org)
        at = self._records.clock()
        if image and image.status in UNDER_WAY and image.updated_at > at - ABANDONED:
            return  # it is on its way
        node = await self._store.find_by_id(Node, build.node, org=EVERY_ORG)
        if node is None or node.status is NodeStatus.DELETED:
            await self._end(build, failed("Its node is gone: build it again.", "node_lost"))
        elif await self._records.remind(build, command("publish"), actor=PUBLISHER):
            log.info("build %s stood still: reminded", build.uuid)


def _image_of(build: Build) -> str:
    """Always the same one."""
    return id_for(build.org, Image.resource, f"build:{build.uuid}")
