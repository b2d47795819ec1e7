"""The container that answers calls of a version: brought up for the first, ended when idle."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from pipeline.adapters.store.store import EVERY_ORG
from pipeline.errors import NotFound, Superseded
from pipeline.images import delivery_events
from pipeline.models.deliveries import ModelDeliveries
from pipeline.models.jobs import job
from pipeline.models.jobs.job import Heartbeat, Job, JobRun, launch_of, wind_down
from pipeline.models.runtime.container_spec import IDENTIFIER_LABEL, VERSION_LABEL
from pipeline.models.runtime.starts import UP, ModelStarts
from pipeline.models.service import SHUTDOWN, USED, load, order, retired
from pipeline.records.idempotency import new_id
from pipeline.records.kernel import Change, Records
from pipeline.records.sweeping import one_by_one
from pipeline.settings import Settings
from schemas.access import Principal
from schemas.commands import VersionOrder
from schemas.container import PURPOSE_LABEL, Container
from schemas.image import Image
from schemas.model import ModelVersion, Phase, Serving

log = logging.getLogger(__name__)

SWEEPER = "worker:idle"
ENDER = "worker:shutdown"


class ServingJobs(Job[Serving]):
    """One that succeeded holds as long as its container runs."""

    field, name = "serve", "serving"
    keeps_container = True

    def __init__(
        self, records: Records, deliveries: ModelDeliveries, starts: ModelStarts, settings: Settings
    ) -> None:
        super().__init__(records, deliveries, starts, settings)
        self._store = records.store
        self._idle = timedelta(seconds=settings.serve_idle_s)

    async def end(
        self, caller: Principal, version: ModelVersion, *, only: str | None = None
    ) -> ModelVersion:
        """Have the container ended, if there is one; with `only`, if it is still that one.

        Calls under way fail. What is being ended stands in `ending` until it is gone.
        """

        def decide(now: ModelVersion, at: datetime) -> Change | None:
            if now.serve.phase not in USED or only not in (None, now.serve.id):
                return None
            return retired(now, at)

        return await self._records.amend(version, decide, actor=caller.id)

    @asynccontextmanager
    async def using(
        self, version: ModelVersion, call: str, *, until: datetime
    ) -> AsyncIterator[bool]:
        """While open, the container is not idle. False when it may not be used any more.

        `call` identifies the call, which has ended by `until` whatever happens to this process.
        """
        begun = {f"serve.calls.{call}": until, "serve.used_at": self._records.clock()}
        held = await self._update(version, {"$set": begun})
        try:
            yield held
        finally:
            if held:
                used = {"serve.used_at": self._records.clock()}
                ended = {"$set": used, "$unset": {f"serve.calls.{call}": ""}}
                await self._update(version, ended)

    @asynccontextmanager
    async def holding(self, container: Container, most_s: float) -> AsyncIterator[None]:
        """As `using`, for a call that goes to a container whatever it was started for."""
        version = await self._served_by(container)
        if version is None:
            yield
            return
        until = self._records.clock() + timedelta(seconds=most_s)
        async with self.using(version, new_id(), until=until):
            yield

    async def sweep_idle(self) -> None:
        """End what nobody has used for long. Safe in several workers at once."""
        now = self._records.clock()
        idle = {"serve.phase": Phase.SUCCEEDED.value, "serve.used_at": {"$lt": now - self._idle}}
        oldest = [("serve.used_at", 1)]
        found = await self._store.find(
            ModelVersion, org=EVERY_ORG, where=idle, sort=oldest, limit=job.SWEPT_AT_ONCE
        )
        uncalled = [each for each in found if max(each.serve.calls.values(), default=now) <= now]
        await one_by_one(uncalled, self._end_idle)

    # --- what is special about this job

    async def _without_dead(self, caller: Principal, version: ModelVersion) -> ModelVersion:
        """A container that ended by itself, or was stopped by somebody, answers no call."""
        serve = version.serve
        if serve.phase is not Phase.SUCCEEDED:
            return version
        container = await self._store.find_by_id(Container, serve.container, org=version.org)
        if container is not None and container.status in UP:
            return version
        return await self.end(caller, version, only=serve.id)

    async def _begin(self, now: ModelVersion, image: Image, at: datetime) -> Serving | None:
        job.require_loaded(now, image)
        if now.serve.phase is Phase.SUCCEEDED:
            return None
        return Serving(timeout_ms=now.timeouts.status_ms)

    async def _prove(self, run: JobRun) -> Mapping[str, Any]:
        return {"container": (await self._bring_up(run)).uuid}

    def _ended(self, passed: bool) -> Mapping[str, Any]:
        return {"used_at": self._records.clock()} if passed else {}

    async def _discard(self, version: ModelVersion, order: VersionOrder) -> None:
        """An order may come again after it was carried out: what answers calls stays."""
        if version.serve.id != order.attempt or version.serve.phase is Phase.FAILED:
            await super()._discard(version, order)

    # --- what is there

    async def _served_by(self, container: Container) -> ModelVersion | None:
        # Labels are written by anybody: the version says whether it is true.
        labels = container.spec.labels
        if labels.get(PURPOSE_LABEL) != self.field:
            return None
        model, name = labels.get(IDENTIFIER_LABEL, ""), labels.get(VERSION_LABEL, "")
        try:
            version = await load(self._store, container.org, model, name)
        except NotFound:
            return None
        return version if version.serve.container == container.uuid else None

    async def _end_idle(self, version: ModelVersion) -> None:
        seen = version.serve

        def decide(now: ModelVersion, at: datetime) -> Change | None:
            if (now.serve.id, now.serve.used_at) != (seen.id, seen.used_at):
                return None
            # A call begins without a new revision.
            return replace(retired(now, at), guard={"serve.used_at": seen.used_at})

        ended = await self._records.amend(version, decide, actor=SWEEPER)
        if ended.serve.id != seen.id:
            log.info("%s of %s is idle: its container ends", seen.id, version.uuid)

    async def _update(self, version: ModelVersion, update: dict[str, Any]) -> bool:
        """Whether the container is still the one that answers."""
        guard = {"serve.id": version.serve.id, "serve.phase": Phase.SUCCEEDED.value}
        changed = await self._store.update(
            ModelVersion, version.uuid, org=version.org, guard=guard, update=update
        )
        return changed is not None


class ModelEndings:
    """A container stays listed in its version until it is gone, so that none is forgotten."""

    def __init__(self, records: Records, starts: ModelStarts, settings: Settings) -> None:
        self._records = records
        self._starts = starts
        self._stuck_after = timedelta(seconds=settings.stuck_after_s)

    async def carry_out(self, org: str, order: VersionOrder) -> None:
        """Ask the model to end, stop and remove its container, and tell of it. Idempotent.

        Raises what the store and the broker raise while another try may help.
        """
        version = await load(self._records.store, org, order.identifier, order.version)
        ending = next((each for each in version.ending if each.id == order.attempt), None)
        if ending is None:
            return
        image = await self._records.store.get(Image, ending.image or "", org=org)
        request = launch_of(version, image, ending, ServingJobs.field)
        guard = {"ending.id": ending.id}
        heartbeat = Heartbeat(self._records, version, guard, "ending.$.alive_at")
        try:
            was_there = await wind_down(self._starts, request, heartbeat)
        except Superseded:
            log.info("container of %s was ended by somebody else", ending.id)
            return

        def decide(now: ModelVersion, _at: datetime) -> Change | None:
            kept = [each for each in now.ending if each.id != order.attempt]
            if len(kept) == len(now.ending):
                return None
            stopped = delivery_events.about(image, "container.stopped")
            return Change({"ending": kept}, send=[stopped] if was_there else [])

        await self._records.amend(version, decide, actor=ENDER)

    async def sweep(self) -> None:
        """Order again what nobody carries out any more. Safe in several workers at once."""
        late = self._records.clock() - self._stuck_after

        def decide(now: ModelVersion, at: datetime) -> Change | None:
            stuck = [each.id for each in now.ending if not each.alive_at or each.alive_at < late]
            if not stuck:
                return None
            reminded = [each.model_copy(update={"alive_at": at}) for each in now.ending]
            return Change({"ending": reminded}, send=[order(SHUTDOWN, id) for id in stuck])

        where = {"ending.alive_at": {"$lt": late}}
        found = await self._records.store.find(
            ModelVersion, org=EVERY_ORG, where=where, sort=[], limit=job.SWEPT_AT_ONCE
        )
        await one_by_one(found, lambda each: self._records.amend(each, decide, actor=ENDER))
