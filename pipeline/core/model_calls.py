"""Calls of a version: its container is brought up when there is none, and answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from pipeline.adapters.http_guard import Limits, Reply
from pipeline.core import records
from pipeline.core.event_hub import EventHub
from pipeline.core.model_answers import ModelAnswers
from pipeline.core.model_containers import ModelContainers
from pipeline.core.model_launches import UP
from pipeline.core.model_process import fault_of
from pipeline.core.model_writes import ModelWrites
from pipeline.core.serve_process import ServeProcess
from pipeline.errors import BusUnavailable, Conflict, NotFound, RegistryUnavailable, RunFailed
from pipeline.rules import run_results
from schemas.access import Principal
from schemas.container import Container
from schemas.image import Image
from schemas.model import Fault, ModelVersion, Phase, Serving

LOOK_S: Final = 0.5
"""Events say when to look; this often it is looked at in any case."""
ATTEMPTS: Final = 3
"""Containers that may vanish under one call before it is sent."""
GRACE: Final = timedelta(seconds=5)
"""What the end of a call may be late."""

HasLeft = Callable[[], Awaitable[bool]]
"""Whether the caller has hung up."""


@dataclass(frozen=True, slots=True)
class Answered:
    status: int
    output: Any
    elapsed_ms: int


class ModelCalls:
    """The waiting side of `ServeProcess`: nothing is lost when it is not there any more."""

    def __init__(
        self,
        writes: ModelWrites,
        serves: ServeProcess,
        containers: ModelContainers,
        *,
        output_max_bytes: int,
        clock: records.Clock,
    ) -> None:
        self._writes = writes
        self._serves = serves
        self._containers = containers
        self._answers = ModelAnswers(containers)
        self._output_max_bytes = output_max_bytes
        self._clock = clock

    async def run(
        self,
        caller: Principal,
        model: str,
        version: str,
        body: bytes,
        *,
        hub: EventHub,
        has_left: HasLeft,
    ) -> Answered | Fault:
        """What the model makes of `body`, or why it did not.

        Raises NotFound, and Conflict unless the version is loaded.
        """
        for _ in range(ATTEMPTS):
            record = await self._serves.request(caller, model, version)
            record = await self._settled(record, hub, has_left)
            if record.serve.fault is not None:
                return record.serve.fault
            if record.serve.phase is Phase.SUCCEEDED:
                outcome = await self._asked(caller, record, body)
                if outcome is not None:
                    return outcome
        raise Conflict("The container of the version is ended again and again: try again later.")

    async def shut_down(
        self, caller: Principal, model: str, version: str, *, hub: EventHub
    ) -> None:
        """Returns once there is no container, or was none. Raises NotFound."""
        record = await self._serves.end(caller, model, version)
        ending = {each.id for each in record.ending}
        image = record.ending[-1].image if record.ending else None
        with hub.watch(record.org, Image.resource, image or "") as watch:
            while ending & {each.id for each in record.ending}:
                if hub.draining:
                    raise BusUnavailable("The server is stopping; the shutdown goes on: ask again.")
                await watch.moved(LOOK_S)
                record = await self._writes.load(record.org, record.model, record.version)

    async def _settled(
        self, record: ModelVersion, hub: EventHub, has_left: HasLeft
    ) -> ModelVersion:
        """Once the start that is under way has ended; another one may have begun since."""
        start = record.serve.id
        with hub.watch(record.org, Image.resource, record.serve.image or "") as watch:
            while record.serve.phase is Phase.RUNNING and record.serve.id == start:
                if hub.draining:
                    raise BusUnavailable("The server is stopping; the start goes on: ask again.")
                if await has_left():
                    raise Conflict("The caller left before the model was up.")
                await watch.moved(LOOK_S)
                record = await self._writes.load(record.org, record.model, record.version)
        same = record.serve.id == start
        return record if same else record.model_copy(update={"serve": Serving()})

    async def _asked(
        self, caller: Principal, record: ModelVersion, body: bytes
    ) -> Answered | Fault | None:
        """None when the container was ended before it could be asked."""
        timeout_s = record.timeouts.run_ms / 1000
        until = self._clock() + timedelta(seconds=timeout_s) + GRACE
        async with self._serves.using(record, records.new_id(), until=until) as may_use:
            container = await self._containers.find(record.org, record.serve.container or "")
            if not may_use or container is None or container.status not in UP:
                return None
            name = record.inputs[0].name
            return await self._answer(caller, container, body, name, timeout_s)

    async def _answer(
        self, caller: Principal, container: Container, body: bytes, name: str, timeout_s: float
    ) -> Answered | Fault | None:
        limits = Limits(total_s=timeout_s, body_max_bytes=self._output_max_bytes, redirects=0)
        began = self._clock()
        try:
            reply = await self._containers.ask(container, body, name=name, limits=limits)
        except NotFound:
            return None
        except RegistryUnavailable as error:
            if error.facts.get("kind") == "refused" and await self._has_ended(container):
                return None
            missing = await self._answers.missing(caller, container, error, timeout_s=timeout_s)
            return fault_of(missing)
        elapsed_ms = round((self._clock() - began).total_seconds() * 1000)
        return await self._judged(caller, container, reply, elapsed_ms)

    async def _judged(
        self, caller: Principal, container: Container, reply: Reply, elapsed_ms: int
    ) -> Answered | Fault:
        if not 200 <= reply.status < 300:
            return fault_of(await self._answers.refused(caller, container, reply))
        if reply.is_truncated:
            most = self._output_max_bytes
            call = self._containers.dialect(container).run_call
            return fault_of(RunFailed(f"{call} answered more than {most} bytes."))
        return Answered(reply.status, run_results.shown(reply.body), elapsed_ms)

    async def _has_ended(self, container: Container) -> bool:
        now = await self._containers.find(container.org, container.uuid)
        return now is None or now.status not in UP
