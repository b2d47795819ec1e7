"""What load tests and trial runs have in common: one at a time, resumable, voidable."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final, Generic, TypeVar

from pipeline.access.roles import acting_for
from pipeline.adapters.store.store import EVERY_ORG
from pipeline.errors import Conflict, ModelRefused, Superseded, YardError
from pipeline.images import delivery_events
from pipeline.models.deliveries import ModelDeliveries, require_complete
from pipeline.models.runtime.container_spec import spec_for
from pipeline.models.runtime.starts import LaunchRequest, ModelStarts, StartProgress
from pipeline.models.service import load, order
from pipeline.records.idempotency import id_for
from pipeline.records.kernel import Change, Records
from pipeline.records.sweeping import one_by_one
from pipeline.settings import Settings
from schemas.access import Principal
from schemas.base import Fault
from schemas.commands import VersionOrder
from schemas.container import Container
from schemas.image import Image
from schemas.model import LoadTest, ModelVersion, Phase, TrialRun

log = logging.getLogger(__name__)

SWEPT_AT_ONCE: Final = 50
BEAT_S: Final = 2
"""How often whoever carries something out says that he still does."""

State = TypeVar("State", LoadTest, TrialRun)


class Heartbeat:
    """Marks a part of a version as being worked on. Call it as often as you like."""

    def __init__(
        self, records: Records, version: ModelVersion, guard: Mapping[str, Any], field: str
    ) -> None:
        """`guard` holds as long as there is a need; `field` is the time to write."""
        self._records = records
        self._version = version
        self._guard = guard
        self._field = field
        self._beaten_at = 0.0

    async def beat(self) -> None:
        """Raises Superseded when there is no more need."""
        now = asyncio.get_running_loop().time()
        if now - self._beaten_at < BEAT_S:
            return
        self._beaten_at = now
        alive = await self._records.store.update(
            ModelVersion,
            self._version.uuid,
            org=self._version.org,
            guard=self._guard,
            update={"$set": {self._field: self._records.clock()}},
        )
        if alive is None:
            raise _superseded(self._version)


@dataclass(slots=True)
class JobRun:
    """A job that is carried out: `version` is as its last write left it."""

    version: ModelVersion
    image: Image
    request: LaunchRequest
    heartbeat: Heartbeat
    tell_at: float = 0.0
    """Of the loop's time: until then nothing is told that only says how far it is."""


class Job(ABC, Generic[State]):
    """Asked for by anybody, carried out by one worker; another one goes on where it was killed.

    Its state is a part of the version's record, which one `phase` RUNNING and one `id` guard.
    """

    field: ClassVar[str]
    """Of the version, and in the names of events and orders."""
    name: ClassVar[str]
    refusals: ClassVar[tuple[type[YardError], ...]] = (ModelRefused,)
    """What is its outcome when it is not retryable. The rest is a failure to carry it out."""

    def __init__(
        self, records: Records, deliveries: ModelDeliveries, starts: ModelStarts, settings: Settings
    ) -> None:
        self._records = records
        self._deliveries = deliveries
        self._starts = starts
        self._progress_s = settings.progress_interval_s
        self._stuck_after = timedelta(seconds=settings.stuck_after_s)
        self._worker = f"worker:{self.field}"

    async def request(
        self, caller: Principal, version: ModelVersion, *, key: str | None = None
    ) -> ModelVersion:
        """Have it done, unless what it gave still holds.

        Idempotent: one under way is shared, and one that was asked for with the same `key` is not
        made again. Raises Conflict without a complete image, and what `_begin` raises.
        """
        image = require_complete(await self._deliveries.current(version))
        id = id_for(caller.org, self.name, key)

        async def decide(now: ModelVersion, at: datetime) -> Change | None:
            begun = await self._begin(now, image, at)
            state = self._state(now)
            if begun is None or state.phase is Phase.RUNNING or state.id == id:
                return None
            common = {"id": id, "phase": Phase.RUNNING, "asked_by": caller.id, "alive_at": at}
            common |= {"image": image.uuid, "requirement": now.requirement}
            started = begun.model_copy(update=common)
            tell = delivery_events.about(image, f"{self.field}.started")
            return Change({self.field: started}, send=[tell, order(self.field, id)])

        return await self._records.amend(version, decide, actor=caller.id)

    async def carry_out(self, org: str, order: VersionOrder) -> None:
        """Do what is left of it. Idempotent; one that is over or void leaves no container.

        Raises what the store, the broker and placement raise while another try may help.
        """
        version = await load(self._records.store, org, order.identifier, order.version)
        if not self._is_current(version, order):
            await self._discard(order, org)
            return
        run = await self._run(version)
        try:
            if self._state(version).passed is None:
                # Written down before its containers are removed: who takes over must know.
                await self._write(run, await self._outcome(run))
            await self._end(run)
        except Superseded:
            log.info("%s %s is void", self.name, order.attempt)
            await self._discard(order, org)

    async def give_up(self, org: str, order: VersionOrder, error: Exception) -> None:
        """End one that no try could carry out."""
        version = await load(self._records.store, org, order.identifier, order.version)
        if self._is_current(version, order):
            run = await self._run(version)
            await self._write(run, {"passed": False, "fault": fault_of(error)})
            await self._end(run)

    async def sweep(self) -> None:
        """Order again what nobody carries out any more. Safe in several workers at once."""
        late = self._records.clock() - self._stuck_after
        running = {f"{self.field}.phase": Phase.RUNNING.value}
        where = running | {f"{self.field}.alive_at": {"$lt": late}}

        def decide(now: ModelVersion, at: datetime) -> Change | None:
            state = self._state(now)
            if state.phase is not Phase.RUNNING or not state.alive_at or state.alive_at >= late:
                return None  # somebody carries it out after all
            log.info("%s of %s stood still: ordered again", self.name, now.uuid)
            again = state.model_copy(update={"alive_at": at})
            return Change({self.field: again}, send=[order(self.field, state.id)])

        found = await self._records.store.find(
            ModelVersion, org=EVERY_ORG, where=where, sort=[], limit=SWEPT_AT_ONCE
        )
        await one_by_one(found, lambda each: self._records.amend(each, decide, actor=self._worker))

    # --- what each kind does in its own way

    @abstractmethod
    async def _begin(self, now: ModelVersion, image: Image, at: datetime) -> State | None:
        """What is special about a new one; None when what the last one gave still holds.

        Raises Conflict and InvalidInput when the version is not ready for it.
        """

    @abstractmethod
    async def _prove(self, run: JobRun) -> Mapping[str, Any]:
        """Carry it out; the values of its state when that went well. Raises `refusals`."""

    async def _report(self, run: JobRun, _start: StartProgress) -> None:
        """Called several times a second while the container starts. Raises Superseded."""
        await run.heartbeat.beat()

    def _ended(self, _passed: bool) -> Mapping[str, Any]:
        """Values of its state at its end."""
        return {}

    async def _discard(self, order: VersionOrder, org: str) -> None:
        """Leave no container of one that is over or void."""
        await self._starts.remove(acting_for(org, None), order.attempt)

    # --- carrying out

    async def _outcome(self, run: JobRun) -> Mapping[str, Any]:
        try:
            return {"passed": True, "fault": None, **await self._prove(run)}
        except self.refusals as error:
            if error.retryable:
                raise
            return {"passed": False, "fault": fault_of(error)}

    async def _bring_up(self, run: JobRun) -> Container:
        async with aclosing(self._starts.bring_up(run.request)) as steps:
            async for step in steps:
                if isinstance(step, Container):
                    return step
                await self._report(run, step)
        raise AssertionError("a start ends with a container or raises")

    async def _end(self, run: JobRun) -> None:
        """Leave no container, and only then answer."""
        state = self._state(run.version)
        was_there = await self._wind_down(run)
        phase = Phase.SUCCEEDED if state.passed else Phase.FAILED
        # Of two who carry it out the first that ends it says how it went.
        values = {"phase": phase, "passed": state.passed, "fault": state.fault}
        outcome = f"{self.field}.completed" if state.passed else f"{self.field}.failed"
        tell = ["container.stopped", outcome] if was_there else [outcome]
        await self._write(run, {**values, **self._ended(bool(state.passed))}, tell)

    async def _wind_down(self, run: JobRun) -> bool:
        """Whether there was a container; now there is none. Raises Superseded."""
        was_there = False
        async with aclosing(self._starts.wind_down(run.request)) as looks:
            async for _ in looks:
                was_there = True
                await run.heartbeat.beat()
        return was_there

    async def _write(
        self, run: JobRun, values: Mapping[str, Any], tell: Sequence[str] = (), *, grows: str = ""
    ) -> None:
        """Change the job and tell of it. Raises Superseded when it is another one now.

        Nothing is written when the value of `grows` would not grow.
        """

        def change(now: ModelVersion, at: datetime) -> Change | None:
            state = self._state(now)
            if state.id != run.request.id or state.phase is not Phase.RUNNING:
                raise _superseded(now)
            if grows and values[grows] <= getattr(state, grows):
                return None
            state = state.model_copy(update={"alive_at": at, **values})
            send = [delivery_events.about(run.image, kind) for kind in tell]
            return Change({self.field: state}, send=send)

        run.version = await self._records.amend(run.version, change, actor=self._worker)

    async def _run(self, version: ModelVersion) -> JobRun:
        state = self._state(version)
        image = await self._records.store.get(Image, state.image or "", org=version.org)
        guard = {f"{self.field}.id": state.id, f"{self.field}.phase": Phase.RUNNING.value}
        heartbeat = Heartbeat(self._records, version, guard, f"{self.field}.alive_at")
        return JobRun(version, image, _launch_of(version, image, state, self.field), heartbeat)

    def _state(self, version: ModelVersion) -> State:
        state: State = getattr(version, self.field)
        return state

    def _is_current(self, version: ModelVersion, order: VersionOrder) -> bool:
        """Whether there is something to do for an order."""
        state = self._state(version)
        return state.id == order.attempt and state.phase is Phase.RUNNING


def require_loaded(version: ModelVersion, image: Image) -> None:
    """Raises Conflict unless `image` counts and has passed its load test."""
    if version.image != image.uuid or not version.is_loaded:
        raise Conflict("The image has not passed the load test: POST load-process first.")


def _launch_of(
    version: ModelVersion, image: Image, state: LoadTest | TrialRun, purpose: str
) -> LaunchRequest:
    """The start that makes, or made, the containers of a job."""
    own = None if isinstance(state, TrialRun) else state.timeout_ms
    return LaunchRequest(
        id=state.id or "",
        caller=acting_for(version.org, state.asked_by),
        image=image,
        spec=spec_for(version, image, requirement=state.requirement, purpose=purpose),
        requirement=state.requirement,
        timeout_s=(own or version.timeouts.status_ms) / 1000,
    )


def fault_of(error: Exception) -> Fault:
    """What callers are told of a failure; details of what nobody foresaw stay in the log."""
    if not isinstance(error, YardError):
        message = "Something went wrong on our side: try again later."
        return Fault(code="internal_error", message=message, technical=type(error).__name__)
    technical = str(error.facts.get("technical") or f"{error.code}: {error.message}")
    return Fault(code=error.code, message=error.message, technical=technical)


def _superseded(version: ModelVersion) -> Superseded:
    return Superseded(f"What was asked of {version.model} {version.version} is over or void.")
