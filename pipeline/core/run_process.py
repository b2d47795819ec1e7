"""The trial run: a fresh container gets the test input, runs, and what it wrote is kept."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import datetime
from typing import Any, Final

from pipeline import tasks
from pipeline.adapters.http_guard import Limits, Reply
from pipeline.core import records
from pipeline.core.container_files import ContainerFiles
from pipeline.core.model_answers import ModelAnswers
from pipeline.core.model_containers import ModelContainers, acting_for, spec_for
from pipeline.core.model_deliveries import ModelDeliveries, require_complete
from pipeline.core.model_files import ModelFiles
from pipeline.core.model_launches import LAST_LOOK_S, Moment, Start
from pipeline.core.model_process import Course, ModelProcess, fault_of
from pipeline.core.model_starts import ModelStarts
from pipeline.core.model_trials import Trial, trial_of
from pipeline.core.model_writes import ModelWrites
from pipeline.errors import (
    Conflict,
    EngineError,
    InvalidInput,
    ModelRefused,
    RegistryUnavailable,
    Superseded,
    TooLarge,
)
from pipeline.rules import run_results
from pipeline.settings import Settings
from schemas.access import Principal
from schemas.commands import VersionOrder
from schemas.container import Container
from schemas.image import Image
from schemas.model import FileKind, ModelVersion, Phase, TrialRun

log = logging.getLogger(__name__)

JSON: Final = "application/json"


class RunProcess:
    """Asked for by anybody, carried out by one worker; another one goes on where it was killed."""

    def __init__(
        self,
        writes: ModelWrites,
        process: ModelProcess[TrialRun],
        deliveries: ModelDeliveries,
        files: ModelFiles,
        containers: ModelContainers,
        starts: ModelStarts,
        copies: ContainerFiles,
        settings: Settings,
        clock: records.Clock,
    ) -> None:
        self._writes = writes
        self._process = process
        self._deliveries = deliveries
        self._files = files
        self._containers = containers
        self._answers = ModelAnswers(containers)
        self._starts = starts
        self._copies = copies
        self._place_s = settings.load_wait_s
        self._output_max_bytes = settings.run_output_max_bytes
        self._clock = clock
        self.sweep = process.sweep

    async def request(
        self, caller: Principal, model: str, version: str, *, key: str | None = None
    ) -> ModelVersion:
        """Have the version run with its test input. One under way is shared.

        Raises NotFound, Conflict unless it is loaded, and InvalidInput without a test input.
        """
        current = await self._writes.load(caller.org, model, version)
        image = require_complete(await self._deliveries.current(current))
        inputs = await self._files.test_inputs(current)
        id = records.id_for(caller.org, "trial-run", key)

        def begin(now: ModelVersion, at: datetime) -> TrialRun | None:
            if now.image != image.uuid or not now.is_loaded:
                raise Conflict("The image has not passed the load test: POST load-process first.")
            if not inputs:
                raise InvalidInput("There is no test input: POST testInput first.")
            if now.run.phase is Phase.RUNNING or now.run.id == id:
                return None
            return TrialRun(
                id=id,
                phase=Phase.RUNNING,
                asked_by=caller.id,
                image=image.uuid,
                requirement=now.requirement,
                started_at=at,
                input_size=sum(len(each.content) for each in inputs),
                alive_at=at,
            )

        return await self._process.begin(current, image, caller.id, begin)

    async def show(self, version: ModelVersion) -> dict[str, Any]:
        """How far the newest run is, and what it gave."""
        outputs: dict[str, Any] = {}
        if version.run.phase is Phase.SUCCEEDED:
            kept = await self._files.find(version.org, version.uuid, FileKind.RESULT)
            outputs = json.loads(kept.content) if kept else {}
        return run_results.describe(version.run, outputs, version.outputs)

    async def carry_out(self, org: str, order: VersionOrder) -> None:
        """Do what is left of a run. Idempotent; one that is over or void leaves no container.

        Raises what the store and the broker raise while another try may help.
        """
        version = await self._writes.load(org, order.identifier, order.version)
        image = await self._deliveries.current(version)
        if image is None or not self._process.is_current(version, order):
            await self._starts.remove_stale(acting_for(org, None), order.attempt)
            return
        course = Course(version, image, self._start(version, image))
        try:
            if version.run.passed is None:
                await self._process.note(course, await self._outcome(course))
            await self._end(course)
        except Superseded:
            log.info("trial run %s is void", course.start.id)
            await self._starts.clear(course.start)

    async def give_up(self, org: str, order: VersionOrder, error: Exception) -> None:
        """End a run that no try could carry out."""
        version = await self._writes.load(org, order.identifier, order.version)
        image = await self._deliveries.current(version)
        if image is not None and self._process.is_current(version, order):
            course = Course(version, image, self._start(version, image))
            await self._process.note(course, {"passed": False, "fault": fault_of(error)})
            await self._end(course)

    # --- carrying out

    async def _outcome(self, course: Course) -> dict[str, Any]:
        try:
            outputs, elapsed_ms = await self._outputs(course)
        except (ModelRefused, InvalidInput, TooLarge, EngineError) as error:
            if error.retryable:
                raise
            return {"passed": False, "fault": fault_of(error)}
        content = json.dumps(outputs, ensure_ascii=False).encode()
        await self._files.put(
            course.version.org, course.version.uuid, FileKind.RESULT, content, media_type=JSON
        )
        return {"passed": True, "fault": None, "elapsed_ms": elapsed_ms}

    async def _outputs(self, course: Course) -> tuple[dict[str, Any], int]:
        async def report(_moment: Moment) -> None:
            await self._process.beat(course)

        container = await self._starts.bring_up(course.start, report)
        engine = await self._containers.node_name(container)
        await self._step(course, run_results.FETCHING, engine=engine)
        inputs = await self._files.test_inputs(course.version)
        trial = trial_of(self._containers, self._copies, container, inputs)
        await trial.give()
        await self._step(course, run_results.SUBMITTING)
        reply, elapsed_ms = await self._submitted(course, container, trial)
        await self._step(course, run_results.RECORDING)
        declared = course.version.outputs
        names = {run_results.RESULTS, *(each.name for each in declared)}
        files = await trial.take(names, max_bytes=self._output_max_bytes)
        return run_results.collect(declared, files, reply.body), elapsed_ms

    async def _submitted(
        self, course: Course, container: Container, trial: Trial
    ) -> tuple[Reply, int]:
        limits = Limits(
            total_s=course.version.timeouts.run_ms / 1000,
            body_max_bytes=self._output_max_bytes,
            redirects=0,
        )
        began = self._clock()
        asking = asyncio.create_task(trial.run(limits), name="run")
        try:
            while not asking.done():
                await self._process.beat(course)
                await asyncio.wait({asking}, timeout=LAST_LOOK_S)
            reply = await asking
        except RegistryUnavailable as error:
            raise await self._answers.missing(
                course.start.caller, container, error, timeout_s=limits.total_s
            ) from error
        finally:
            await tasks.end(asking)
        elapsed_ms = round((self._clock() - began).total_seconds() * 1000)
        if not 200 <= reply.status < 300:
            raise await self._answers.refused(course.start.caller, container, reply)
        if reply.is_truncated:
            raise TooLarge(f"The model answered more than {self._output_max_bytes} bytes.")
        return reply, elapsed_ms

    async def _end(self, course: Course) -> None:
        """Leave no container, and only then answer."""
        was_there = await self._starts.wind_down(course.start, lambda: self._process.beat(course))

        def update(proof: TrialRun, at: datetime) -> dict[str, Any]:
            phase = Phase.SUCCEEDED if proof.passed else Phase.FAILED
            return {"phase": phase, "step": run_results.COMPLETED, "ended_at": at}

        def say(proof: TrialRun) -> list[str]:
            stopped = ["container.stopped"] if was_there else []
            return [*stopped, "run.completed" if proof.passed else "run.failed"]

        await self._process.write(course, update, say)

    async def _step(self, course: Course, step: int, **values: Any) -> None:
        def update(proof: TrialRun, _at: datetime) -> dict[str, Any] | None:
            return {"step": step, **values} if step > proof.step else None

        await self._process.write(course, update, lambda _proof: ["run.progressed"])

    def _start(self, version: ModelVersion, image: Image) -> Start:
        return Start(
            id=version.run.id or "",
            caller=acting_for(version.org, version.run.asked_by),
            image=image,
            spec=spec_for(version, image, requirement=version.run.requirement, purpose="run"),
            requirement=version.run.requirement,
            timeout_s=version.timeouts.status_ms / 1000,
            place_s=self._place_s,
        )
