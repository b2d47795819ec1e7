"""Containers that are started to prove a version: the load test and the trial run.

The load test: a node takes the image, its container starts and says that it is well. The trial
run: a fresh container gets the test input, runs, and what it wrote is kept.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from pipeline import concurrency, errors
from pipeline.adapters.http.guarded import Limits, Reply
from pipeline.adapters.store.store import EVERY_ORG
from pipeline.containers import file_archives
from pipeline.containers.agent_requests import ContainerFiles
from pipeline.models.deliveries import ModelDeliveries
from pipeline.models.jobs.job import Job, JobRun, require_loaded
from pipeline.models.runtime import outputs
from pipeline.models.runtime.client import JSON, GrpcDialect, ModelClient
from pipeline.models.runtime.starts import LAST_LOOK_S, ModelStarts, StartProgress
from pipeline.models.service import ModelFiles
from pipeline.records.kernel import Records
from pipeline.settings import Settings
from schemas.container import Container
from schemas.image import Image
from schemas.model import FileKind, LoadTest, ModelFile, ModelVersion, Phase, TrialRun
from schemas.node import Node
from schemas.states import ContainerStatus

Inputs: TypeAlias = Sequence[ModelFile]
Answer: TypeAlias = tuple[Reply, Mapping[str, bytes] | None]
"""With the outputs, where they come with it."""

FETCHING, SUBMITTING, RECORDING, COMPLETED = range(1, 5)

LOADING, CHECKING = 1, 2
FIRST, CREATED, STARTED, LAST = 33, 65, 66, 99


class LoadTests(Job[LoadTest]):
    """One that succeeded counts until image, requirement or timeout change."""

    field, name = "load", "load-test"

    async def _begin(self, now: ModelVersion, image: Image, at: datetime) -> LoadTest | None:
        if now.image != image.uuid:
            raise errors.Conflict("Another image was delivered meanwhile: ask again.")
        if _still_holds(now):
            return None
        return LoadTest(timeout_ms=now.timeouts.status_ms, step=LOADING, percentage=FIRST)

    async def _prove(self, run: JobRun) -> Mapping[str, Any]:
        await self._bring_up(run)
        return {}

    async def _report(self, run: JobRun, start: StartProgress) -> None:
        """At most one write per percent, and one event per interval."""
        step, percentage = progress(start.container, start.waited)
        if percentage <= run.version.load.percentage:
            await run.heartbeat.beat()
            return
        news, now = {"step": step, "percentage": percentage}, asyncio.get_running_loop().time()
        tell = ["load.progressed"] if now >= run.tell_at else []
        if tell:
            run.tell_at = now + self._progress_s
        await self._write(run, news, tell, grows="percentage")

    def _ended(self, passed: bool) -> Mapping[str, Any]:
        return {"step": CHECKING, "percentage": 100} if passed else {}


class TrialRuns(Job[TrialRun]):
    """The result of the newest one is kept as a file of its version."""

    field, name = "run", "trial-run"
    refusals = (errors.ModelRefused, errors.InvalidInput, errors.TooLarge, errors.EngineError)

    def __init__(
        self,
        records: Records,
        deliveries: ModelDeliveries,
        starts: ModelStarts,
        settings: Settings,
        files: ModelFiles,
        copies: ContainerFiles,
        client: ModelClient,
    ) -> None:
        super().__init__(records, deliveries, starts, settings)
        self._files = files
        self._copies = copies
        self._client = client
        self._output_max_bytes = settings.run_output_max_bytes

    async def result(self, version: ModelVersion) -> dict[str, Any]:
        """What the newest run gave, by the names of outputs. Empty unless it succeeded."""
        if version.run.phase is not Phase.SUCCEEDED:
            return {}
        kept = await self._files.find(version.org, version.uuid, FileKind.RESULT)
        found: dict[str, Any] = json.loads(kept.content) if kept else {}
        return found

    async def _begin(self, now: ModelVersion, image: Image, at: datetime) -> TrialRun | None:
        require_loaded(now, image)
        inputs = await self._files.test_inputs(now)
        if not inputs:
            raise errors.InvalidInput("There is no test input: POST testInput first.")
        return TrialRun(started_at=at, input_size=sum(len(each.content) for each in inputs))

    def _ended(self, _passed: bool) -> Mapping[str, Any]:
        return {"step": COMPLETED, "ended_at": self._records.clock()}

    async def _prove(self, run: JobRun) -> Mapping[str, Any]:
        version, container = run.version, await self._bring_up(run)
        await self._step(run, FETCHING, engine=await self._node_name(container))
        inputs = await self._files.test_inputs(version)
        if not isinstance(self._client.dialect(container), GrpcDialect):
            await self._copies.put_inputs(container, [each.uuid for each in inputs])
        await self._step(run, SUBMITTING)
        began = self._records.clock()
        reply, files = await self._submitted(run, container, inputs)
        elapsed_ms = round((self._records.clock() - began).total_seconds() * 1000)
        if not 200 <= reply.status < 300:
            raise await self._client.refused(run.request.caller, container, reply)
        if reply.is_truncated:
            raise errors.TooLarge(f"The model answered more than {self._output_max_bytes} bytes.")
        await self._step(run, RECORDING)
        names = {outputs.RESULTS, *(each.name for each in version.outputs)}
        if files is None:
            most = self._output_max_bytes
            archive = await self._copies.get_outputs(container, max_bytes=most)
            files = file_archives.read_outputs(archive, names)
        files = {name: content for name, content in files.items() if name in names}
        result = outputs.collect(version.outputs, files, reply.body)
        content = json.dumps(result, ensure_ascii=False).encode()
        await self._files.put(version.org, version.uuid, FileKind.RESULT, content, media_type=JSON)
        return {"elapsed_ms": elapsed_ms}

    async def _submitted(self, run: JobRun, container: Container, inputs: Inputs) -> Answer:
        timeout_s = run.version.timeouts.run_ms / 1000
        limits = Limits(total_s=timeout_s, body_max_bytes=self._output_max_bytes, redirects=0)
        asking = asyncio.create_task(self._ask(container, inputs, limits), name="run")
        try:
            while not asking.done():
                await run.heartbeat.beat()
                await asyncio.wait({asking}, timeout=LAST_LOOK_S)
            return await asking
        except errors.Unreachable as error:
            caller = run.request.caller
            raise await self._client.unanswered(caller, container, error, timeout_s) from error
        finally:
            await concurrency.cancel_and_wait(asking)

    async def _ask(self, container: Container, inputs: Inputs, limits: Limits) -> Answer:
        """Files travel in the call, or they lie in folders of the container."""
        dialect = self._client.dialect(container)
        if isinstance(dialect, GrpcDialect):
            files = {each.name: each.content for each in inputs}
            address = await self._client.address(container)
            return await dialect.exchange(address, files, limits=limits)
        folders = {"input": file_archives.INPUT, "output": file_archives.OUTPUT}
        body = json.dumps({"type": "file", **folders}).encode()
        return await self._client.ask(container, body, limits=limits), None

    async def _step(self, run: JobRun, step: int, **values: Any) -> None:
        await self._write(run, {"step": step, **values}, ["run.progressed"], grows="step")

    async def _node_name(self, container: Container) -> str | None:
        if container.node is None:
            return None
        return (await self._records.store.get(Node, container.node, org=EVERY_ORG)).name


def _still_holds(version: ModelVersion) -> bool:
    load = version.load
    proved = (load.image, load.requirement, load.timeout_ms)
    wanted = (version.image, version.requirement, version.timeouts.status_ms)
    return load.phase is Phase.SUCCEEDED and proved == wanted


def progress(container: Container | None, waited: float | None) -> tuple[int, int]:
    """Step and percentage. `waited` is the share of the timeout that is over, once it is asked."""
    if waited is not None:
        share = min(max(waited, 0), 1)
        return CHECKING, STARTED + int(share * (LAST - STARTED))
    if container is None:
        return LOADING, FIRST
    if container.status is ContainerStatus.PULLING:
        pulled = container.progress.percentage
        return LOADING, FIRST + pulled * (CREATED - FIRST) // 100
    is_there = container.status is ContainerStatus.CREATED or container.started_at is not None
    return LOADING, CREATED if is_there else FIRST
