"""The load test: a node takes the image, its container starts and says that it is well."""

from __future__ import annotations

import logging
from datetime import datetime

from pipeline.core import records
from pipeline.core.model_containers import acting_for, spec_for
from pipeline.core.model_deliveries import ModelDeliveries, require_complete
from pipeline.core.model_launches import Moment, Start
from pipeline.core.model_process import Course, ModelProcess, fault_of
from pipeline.core.model_starts import ModelStarts
from pipeline.core.model_writes import ModelWrites
from pipeline.errors import Conflict, ModelRefused, Superseded
from pipeline.rules import load_progress
from pipeline.settings import Settings
from schemas.access import Principal
from schemas.commands import VersionOrder
from schemas.image import Image
from schemas.model import Fault, LoadTest, ModelVersion, Phase

log = logging.getLogger(__name__)


class LoadProcess:
    """Asked for by anybody, carried out by one worker; another one goes on where it was killed."""

    def __init__(
        self,
        writes: ModelWrites,
        process: ModelProcess[LoadTest],
        deliveries: ModelDeliveries,
        starts: ModelStarts,
        settings: Settings,
    ) -> None:
        self._writes = writes
        self._process = process
        self._deliveries = deliveries
        self._starts = starts
        self._place_s = settings.load_wait_s
        self.sweep = process.sweep

    async def request(
        self, caller: Principal, model: str, version: str, *, key: str | None = None
    ) -> ModelVersion:
        """Have the image that counts tested.

        Idempotent: a test under way is shared, and one that succeeded counts until image,
        requirement or timeout change; after a failure it is made again, unless `key` is that of
        the one that failed. Raises NotFound, and Conflict without a complete image.
        """
        current = await self._writes.load(caller.org, model, version)
        image = require_complete(await self._deliveries.current(current))
        id = records.id_for(caller.org, "load-test", key)

        def begin(now: ModelVersion, at: datetime) -> LoadTest | None:
            if now.image != image.uuid:
                raise Conflict("Another image was delivered meanwhile: ask again.")
            if now.load.phase is Phase.RUNNING or now.load.id == id or _still_holds(now):
                return None
            return LoadTest(
                id=id,
                phase=Phase.RUNNING,
                asked_by=caller.id,
                image=image.uuid,
                requirement=now.requirement,
                timeout_ms=now.timeouts.status_ms,
                step=load_progress.LOADING,
                percentage=load_progress.FIRST,
                alive_at=at,
            )

        return await self._process.begin(current, image, caller.id, begin)

    async def carry_out(self, org: str, order: VersionOrder) -> None:
        """Do what is left of a test. Idempotent; a test that is over or void leaves no container.

        Raises what the store, the broker and placement raise while another try may help.
        """
        version = await self._writes.load(org, order.identifier, order.version)
        image = await self._deliveries.current(version)
        if image is None or not self._process.is_current(version, order):
            await self._starts.remove_stale(acting_for(org, None), order.attempt)
            return
        course = Course(version, image, self._start(version, image))
        try:
            if version.load.passed is None:
                fault = await self._prove(course)
                await self._process.note(course, {"passed": fault is None, "fault": fault})
            await self._end(course)
        except Superseded:
            log.info("load test %s is void", course.start.id)
            await self._starts.clear(course.start)

    async def give_up(self, org: str, order: VersionOrder, error: Exception) -> None:
        """End a test that no try could carry out."""
        version = await self._writes.load(org, order.identifier, order.version)
        image = await self._deliveries.current(version)
        if image is not None and self._process.is_current(version, order):
            course = Course(version, image, self._start(version, image))
            await self._process.note(course, {"passed": False, "fault": fault_of(error)})
            await self._end(course)

    # --- carrying out

    async def _prove(self, course: Course) -> Fault | None:
        async def report(moment: Moment) -> None:
            await self._advance(course, moment)

        try:
            await self._starts.bring_up(course.start, report)
        except ModelRefused as error:
            return fault_of(error)
        return None

    async def _advance(self, course: Course, moment: Moment) -> None:
        """At most one write and one event per percent. Raises Superseded."""
        step, percentage = load_progress.progress(moment.container, moment.waited)
        if percentage <= course.version.load.percentage:
            await self._process.beat(course)
            return

        def update(load: LoadTest, _at: datetime) -> dict[str, int] | None:
            if percentage <= load.percentage:
                return None
            return {"step": step, "percentage": percentage}

        await self._process.write(course, update, lambda _load: ["load.progressed"])

    async def _end(self, course: Course) -> None:
        """Leave no container, and only then answer."""
        was_there = await self._starts.wind_down(course.start, lambda: self._process.beat(course))

        def update(load: LoadTest, _at: datetime) -> dict[str, object]:
            if not load.passed:
                return {"phase": Phase.FAILED}
            return {"phase": Phase.SUCCEEDED, "step": load_progress.CHECKING, "percentage": 100}

        def say(load: LoadTest) -> list[str]:
            stopped = ["container.stopped"] if was_there else []
            return [*stopped, "load.completed" if load.passed else "load.failed"]

        await self._process.write(course, update, say)

    def _start(self, version: ModelVersion, image: Image) -> Start:
        load = version.load
        return Start(
            id=load.id or "",
            caller=acting_for(version.org, load.asked_by),
            image=image,
            spec=spec_for(version, image, requirement=load.requirement, purpose="load"),
            requirement=load.requirement,
            timeout_s=load.timeout_ms / 1000,
            place_s=self._place_s,
        )


def _still_holds(version: ModelVersion) -> bool:
    load = version.load
    proved = (load.image, load.requirement, load.timeout_ms)
    wanted = (version.image, version.requirement, version.timeouts.status_ms)
    return load.phase is Phase.SUCCEEDED and proved == wanted
