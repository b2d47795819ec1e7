"""The load test: a node takes the image, its container starts and says that it is well."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from pipeline.core import records
from pipeline.core.model_containers import ModelContainers, acting_for, spec_for
from pipeline.core.model_deliveries import ModelDeliveries, require_complete
from pipeline.core.model_process import ModelProcess, fault_of
from pipeline.core.model_starts import LOOK_S, UP, ModelStarts, Moment, Start
from pipeline.core.model_writes import ModelWrites
from pipeline.errors import Conflict, ModelRefused, Superseded
from pipeline.rules import load_progress
from pipeline.settings import Settings
from schemas.access import Principal
from schemas.commands import VersionOrder
from schemas.container import Container
from schemas.image import Image
from schemas.model import Fault, LoadTest, ModelVersion, Phase

log = logging.getLogger(__name__)

BEAT_S: Final = 2
"""How often whoever carries out a test says that he still does."""


class LoadProcess:
    """Asked for by anybody, carried out by one worker; another one goes on where it was killed."""

    def __init__(
        self,
        writes: ModelWrites,
        process: ModelProcess[LoadTest],
        deliveries: ModelDeliveries,
        containers: ModelContainers,
        starts: ModelStarts,
        settings: Settings,
    ) -> None:
        self._writes = writes
        self._process = process
        self._deliveries = deliveries
        self._containers = containers
        self._starts = starts
        self._place_s = settings.load_wait_s
        self._grace_s = settings.stop_grace_s
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
        start = self._start(version, image)
        test = _Test(version, image, start)
        try:
            if version.load.passed is None:
                fault = await self._prove(test)
                await self._note_outcome(test, fault)
            await self._end(test)
        except Superseded:
            log.info("load test %s is void", start.id)
            await self._starts.clear(start)

    async def give_up(self, org: str, order: VersionOrder, error: Exception) -> None:
        """End a test that no try could carry out."""
        version = await self._writes.load(org, order.identifier, order.version)
        image = await self._deliveries.current(version)
        if image is not None and self._process.is_current(version, order):
            test = _Test(version, image, self._start(version, image))
            await self._note_outcome(test, fault_of(error))
            await self._end(test)

    # --- carrying out

    async def _prove(self, test: _Test) -> Fault | None:
        async def report(moment: Moment) -> None:
            await self._advance(test, moment)

        try:
            await self._starts.bring_up(test.start, report)
        except ModelRefused as error:
            return fault_of(error)
        return None

    async def _advance(self, test: _Test, moment: Moment) -> None:
        """At most one write and one event per percent. Raises Superseded."""
        step, percentage = load_progress.progress(moment.container, moment.waited)
        if percentage <= test.version.load.percentage:
            await self._beat(test)
            return

        def update(load: LoadTest, _at: datetime) -> dict[str, int] | None:
            if percentage <= load.percentage:
                return None
            return {"step": step, "percentage": percentage}

        test.version = await self._process.write(
            test.version, test.image, update, lambda _load: ["load.progressed"]
        )

    async def _beat(self, test: _Test) -> None:
        now = asyncio.get_running_loop().time()
        if now - test.beaten_at >= BEAT_S:
            await self._process.beat(test.version)
            test.beaten_at = now

    async def _note_outcome(self, test: _Test, fault: Fault | None) -> None:
        """Before its containers are removed: who takes over must know it."""
        outcome = {"passed": fault is None, "fault": fault}
        test.version = await self._process.write(
            test.version, test.image, lambda _load, _at: outcome, lambda _load: []
        )

    async def _end(self, test: _Test) -> None:
        """Leave no container, and only then answer."""
        container = await self._starts.current(test.start)
        if container is not None and container.status in UP:
            await self._shut_down(test, container)
        await self._starts.clear(test.start)
        ended = ["container.stopped"] if container is not None else []

        def update(load: LoadTest, _at: datetime) -> dict[str, object]:
            if not load.passed:
                return {"phase": Phase.FAILED}
            return {"phase": Phase.SUCCEEDED, "step": load_progress.CHECKING, "percentage": 100}

        def say(load: LoadTest) -> list[str]:
            return [*ended, "load.completed" if load.passed else "load.failed"]

        test.version = await self._process.write(test.version, test.image, update, say)

    async def _shut_down(self, test: _Test, container: Container) -> None:
        """A model that was asked to end gets its time before it is stopped."""
        if (refused := await self._containers.shut_down(container)) is not None:
            log.info("container %s did not agree to end: %s", container.uuid, refused)
            return
        loop = asyncio.get_running_loop()
        stop_at = loop.time() + self._grace_s
        while container.status in UP and loop.time() < stop_at:
            await self._beat(test)
            await asyncio.sleep(LOOK_S)
            found = await self._containers.find(container.org, container.uuid)
            container = found or container

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


@dataclass(slots=True)
class _Test:
    """A test that is carried out: `version` is as its last write left it."""

    version: ModelVersion
    image: Image
    start: Start
    beaten_at: float = field(default=0)


def _still_holds(version: ModelVersion) -> bool:
    load = version.load
    proved = (load.image, load.requirement, load.timeout_ms)
    wanted = (version.image, version.requirement, version.timeouts.status_ms)
    return load.phase is Phase.SUCCEEDED and proved == wanted
