"""The container that answers calls of a version: brought up for the first, ended when idle."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from pipeline.adapters.store import EVERY_ORG
from pipeline.core import records
from pipeline.core.model_containers import (
    IDENTIFIER_LABEL,
    PURPOSE_LABEL,
    VERSION_LABEL,
    ModelContainers,
    acting_for,
)
from pipeline.core.model_deliveries import ModelDeliveries, require_complete
from pipeline.core.model_endings import PURPOSE, USED, retired, start_of
from pipeline.core.model_launches import UP, Moment
from pipeline.core.model_process import SWEPT_AT_ONCE, Course, ModelProcess, fault_of
from pipeline.core.model_starts import ModelStarts
from pipeline.core.model_writes import Change, ModelWrites
from pipeline.errors import Conflict, ModelRefused, NotFound, Superseded
from pipeline.settings import Settings
from schemas.access import Principal
from schemas.commands import VersionOrder
from schemas.container import Container
from schemas.image import Image
from schemas.model import Fault, ModelVersion, Phase, Serving

if TYPE_CHECKING:
    from pipeline.adapters.store import Store

log = logging.getLogger(__name__)

SWEEPER = "worker:idle"


class ServeProcess:
    """Asked for by anybody, carried out by one worker; another one goes on where it was killed."""

    def __init__(
        self,
        store: Store,
        writes: ModelWrites,
        process: ModelProcess[Serving],
        deliveries: ModelDeliveries,
        containers: ModelContainers,
        starts: ModelStarts,
        settings: Settings,
        clock: records.Clock,
    ) -> None:
        self._store = store
        self._writes = writes
        self._process = process
        self._deliveries = deliveries
        self._containers = containers
        self._starts = starts
        self._place_s = settings.load_wait_s
        self._idle = timedelta(seconds=settings.serve_idle_s)
        self._clock = clock
        self.sweep = process.sweep

    async def request(
        self, caller: Principal, model: str, version: str, *, key: str | None = None
    ) -> ModelVersion:
        """Have a container brought up, unless one is up or on its way.

        Raises NotFound, and Conflict unless the version is loaded.
        """
        current = await self._without_dead(
            caller, await self._writes.load(caller.org, model, version)
        )
        image = require_complete(await self._deliveries.current(current))
        id = records.id_for(caller.org, "serving", key)

        def begin(now: ModelVersion, at: datetime) -> Serving | None:
            if now.image != image.uuid or not now.is_loaded:
                raise Conflict("The image has not passed the load test: POST load-process first.")
            if now.serve.phase in USED or now.serve.id == id:
                return None
            return Serving(
                id=id,
                phase=Phase.RUNNING,
                asked_by=caller.id,
                image=image.uuid,
                requirement=now.requirement,
                timeout_ms=now.timeouts.status_ms,
                alive_at=at,
            )

        return await self._process.begin(current, image, caller.id, begin)

    async def end(
        self, caller: Principal, model: str, version: str, *, only: str | None = None
    ) -> ModelVersion:
        """Have the container ended, if there is one; with `only`, if it is still that one.

        Calls under way fail. What is being ended stands in `ending` until it is gone. Raises
        NotFound.
        """

        def decide(now: ModelVersion, at: datetime) -> Change | None:
            if now.serve.phase not in USED or only not in (None, now.serve.id):
                return None
            return retired(now, at=at, actor=caller.id)

        return await self._writes.amend(await self._writes.load(caller.org, model, version), decide)

    @asynccontextmanager
    async def using(
        self, version: ModelVersion, call: str, *, until: datetime
    ) -> AsyncIterator[bool]:
        """While open, the container is not idle. False when it may not be used any more.

        `call` identifies the call, which has ended by `until` whatever happens to this process.
        """
        mine = {"serve.id": version.serve.id, "serve.phase": Phase.SUCCEEDED.value}
        begun = {f"serve.calls.{call}": until, "serve.used_at": self._clock()}
        held = await self._update(version, mine, {"$set": begun})
        try:
            yield held
        finally:
            if held:
                used = {"serve.used_at": self._clock()}
                ended = {"$set": used, "$unset": {f"serve.calls.{call}": ""}}
                await self._update(version, mine, ended)

    @asynccontextmanager
    async def holding(self, container: Container, most_s: float) -> AsyncIterator[None]:
        """As `using`, for a call that goes to a container whatever it was started for."""
        version = await self._served_by(container)
        if version is None:
            yield
            return
        until = self._clock() + timedelta(seconds=most_s)
        async with self.using(version, records.new_id(), until=until):
            yield

    async def sweep_idle(self) -> None:
        """End what nobody has used for long. Safe in several workers at once."""
        now = self._clock()
        idle = {"serve.phase": Phase.SUCCEEDED.value, "serve.used_at": {"$lt": now - self._idle}}
        for version in await self._store.find(
            ModelVersion,
            org=EVERY_ORG,
            where=idle,
            sort=[("serve.used_at", 1)],
            limit=SWEPT_AT_ONCE,
        ):
            if all(until <= now for until in version.serve.calls.values()):
                await self._end_idle(version)

    # --- what a worker does

    async def carry_out(self, org: str, order: VersionOrder) -> None:
        """Do what is left of a start. Idempotent; one that is void leaves no container.

        Raises what the store, the broker and placement raise while another try may help.
        """
        version = await self._writes.load(org, order.identifier, order.version)
        if not self._process.is_current(version, order):
            await self._clear_void(version, order)
            return
        course = await self._course(version)
        try:
            if version.serve.passed is None:
                await self._bring_up(course)
            else:
                await self._fail(course)
        except Superseded:
            log.info("start %s is void", course.start.id)
            await self._clear_void(
                await self._writes.load(org, version.model, version.version), order
            )

    async def give_up(self, org: str, order: VersionOrder, error: Exception) -> None:
        """End a start that no try could carry out."""
        version = await self._writes.load(org, order.identifier, order.version)
        if self._process.is_current(version, order):
            await self._refuse(await self._course(version), fault_of(error))

    async def _bring_up(self, course: Course) -> None:
        async def report(_moment: Moment) -> None:
            await self._process.beat(course)

        try:
            container = await self._starts.bring_up(course.start, report)
        except ModelRefused as error:
            await self._refuse(course, fault_of(error))
            return

        def update(_serve: Serving, at: datetime) -> dict[str, Any]:
            up = {"phase": Phase.SUCCEEDED, "passed": True}
            return {**up, "container": container.uuid, "used_at": at}

        await self._process.write(course, update, lambda _serve: ["serve.completed"])

    async def _refuse(self, course: Course, fault: Fault) -> None:
        await self._process.note(course, {"passed": False, "fault": fault})
        await self._fail(course)

    async def _fail(self, course: Course) -> None:
        """Leave no container, and only then answer."""
        was_there = await self._starts.wind_down(course.start, lambda: self._process.beat(course))
        said = ["container.stopped", "serve.failed"] if was_there else ["serve.failed"]
        failed = {"phase": Phase.FAILED}
        await self._process.write(course, lambda _serve, _at: failed, lambda _serve: said)

    async def _clear_void(self, version: ModelVersion, order: VersionOrder) -> None:
        """An order may come again after it was carried out: what answers calls stays."""
        if version.serve.id != order.attempt or version.serve.phase is Phase.FAILED:
            await self._starts.remove_stale(acting_for(version.org, None), order.attempt)

    async def _course(self, version: ModelVersion) -> Course:
        serve = version.serve
        image = await self._store.get(Image, serve.image or "", org=version.org)
        return Course(version, image, start_of(version, image, serve, place_s=self._place_s))

    # --- what is there

    async def _without_dead(self, caller: Principal, version: ModelVersion) -> ModelVersion:
        """A container that ended by itself, or was stopped by somebody, answers no call."""
        serve = version.serve
        if serve.phase is not Phase.SUCCEEDED:
            return version
        container = await self._containers.find(version.org, serve.container or "")
        if container is not None and container.status in UP:
            return version
        return await self.end(caller, version.model, version.version, only=serve.id)

    async def _served_by(self, container: Container) -> ModelVersion | None:
        # Labels are written by anybody: the version says whether it is true.
        labels = container.spec.labels
        if labels.get(PURPOSE_LABEL) != PURPOSE:
            return None
        model, name = labels.get(IDENTIFIER_LABEL, ""), labels.get(VERSION_LABEL, "")
        try:
            version = await self._writes.load(container.org, model, name)
        except NotFound:
            return None
        return version if version.serve.container == container.uuid else None

    async def _end_idle(self, version: ModelVersion) -> None:
        seen = version.serve

        def decide(now: ModelVersion, at: datetime) -> Change | None:
            if (now.serve.id, now.serve.used_at) != (seen.id, seen.used_at):
                return None
            change = retired(now, at=at, actor=SWEEPER)
            # A call begins without a new revision.
            return Change(change.values, change.messages, guard={"serve.used_at": seen.used_at})

        ended = await self._writes.amend(version, decide)
        if ended.serve.id != seen.id:
            log.info("%s of %s is idle: its container ends", seen.id, version.uuid)

    async def _update(
        self, version: ModelVersion, guard: dict[str, Any], update: dict[str, Any]
    ) -> bool:
        changed = await self._store.update(
            ModelVersion, version.uuid, org=version.org, guard=guard, update=update
        )
        return changed is not None
