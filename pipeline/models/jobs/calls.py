"""Calls of a version, answered by its container, which is started when there is none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from pipeline import errors
from pipeline.adapters.http.guarded import Limits
from pipeline.events.hub import EventHub
from pipeline.models.jobs.job import fault_of
from pipeline.models.jobs.serving import ServingJobs
from pipeline.models.runtime import outputs
from pipeline.models.runtime.client import ModelClient
from pipeline.models.runtime.starts import UP
from pipeline.models.service import load
from pipeline.records.idempotency import new_id
from pipeline.records.kernel import Records
from pipeline.settings import Settings
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
    headers: Sequence[tuple[bytes, bytes]]
    """The model's own."""


class ModelCalls:
    """The waiting side of `ServingJobs`: nothing is lost when it is not there any more."""

    def __init__(
        self, records: Records, serving: ServingJobs, client: ModelClient, settings: Settings
    ) -> None:
        self._store = records.store
        self._clock = records.clock
        self._serving = serving
        self._client = client
        self._output_max_bytes = settings.run_output_max_bytes

    async def run(
        self,
        caller: Principal,
        version: ModelVersion,
        body: bytes,
        *,
        hub: EventHub,
        has_left: HasLeft,
    ) -> Answered | Fault:
        """What the model makes of `body`, or why it did not.

        Raises Conflict unless the version is loaded.
        """
        for _ in range(ATTEMPTS):
            record = await self._serving.request(caller, version)
            record = await self._settled(record, hub, has_left)
            if record.serve.fault is not None:
                return record.serve.fault
            if record.serve.phase is Phase.SUCCEEDED:
                outcome = await self._asked(caller, record, body)
                if outcome is not None:
                    return outcome
            version = await self._look(version)
        raise errors.Conflict(
            "The container of the version is ended again and again: try again later."
        )

    async def shut_down(self, caller: Principal, version: ModelVersion, *, hub: EventHub) -> None:
        """Returns once there is no container, or was none."""
        record = await self._serving.end(caller, version)
        ending = {each.id for each in record.ending}

        def is_gone(record: ModelVersion) -> bool:
            return ending.isdisjoint(each.id for each in record.ending)

        image = record.ending[-1].image if record.ending else None
        with hub.watch(record.org, Image.resource, image or "") as watch:
            record = await watch.until(is_gone, record, self._look, look_every_s=LOOK_S)
        if not is_gone(record):
            raise errors.BusUnavailable("The server is stopping; the shutdown goes on: ask again.")

    async def _settled(
        self, record: ModelVersion, hub: EventHub, has_left: HasLeft
    ) -> ModelVersion:
        """Once the start that is under way has ended; another one may have begun since."""
        start = record.serve.id

        def has_ended(record: ModelVersion) -> bool:
            return record.serve.phase is not Phase.RUNNING or record.serve.id != start

        async def look(record: ModelVersion) -> ModelVersion:
            if await has_left():
                raise errors.Conflict("The caller left before the model was up.")
            return await self._look(record)

        with hub.watch(record.org, Image.resource, record.serve.image or "") as watch:
            record = await watch.until(has_ended, record, look, look_every_s=LOOK_S)
        if not has_ended(record):
            raise errors.BusUnavailable("The server is stopping; the start goes on: ask again.")
        same = record.serve.id == start
        return record if same else record.model_copy(update={"serve": Serving()})

    async def _look(self, last: ModelVersion) -> ModelVersion:
        return await load(self._store, last.org, last.model, last.version)

    async def _asked(
        self, caller: Principal, record: ModelVersion, body: bytes
    ) -> Answered | Fault | None:
        """None when the container was ended before it could be asked."""
        timeout_s = record.timeouts.run_ms / 1000
        until = self._clock() + timedelta(seconds=timeout_s) + GRACE
        async with self._serving.using(record, new_id(), until=until) as may_use:
            uuid = record.serve.container
            container = await self._store.find_by_id(Container, uuid, org=record.org)
            if not may_use or container is None or container.status not in UP:
                return None
            try:
                return await self._answer(caller, container, body, record.inputs[0].name, timeout_s)
            except errors.ModelRefused as error:
                return fault_of(error)

    async def _answer(
        self, caller: Principal, container: Container, body: bytes, name: str, timeout_s: float
    ) -> Answered | None:
        limits = Limits(total_s=timeout_s, body_max_bytes=self._output_max_bytes, redirects=0)
        began = self._clock()
        try:
            reply = await self._client.ask(container, body, name=name, limits=limits)
        except errors.NotFound:
            return None
        except errors.Unreachable as error:
            if error.facts.get("kind") == "refused" and await self._has_ended(container):
                return None
            raise await self._client.unanswered(caller, container, error, timeout_s) from error
        elapsed_ms = round((self._clock() - began).total_seconds() * 1000)
        if not 200 <= reply.status < 300:
            raise await self._client.refused(caller, container, reply)
        if reply.is_truncated:
            call, most = self._client.dialect(container).run_call, self._output_max_bytes
            raise errors.RunFailed(f"{call} answered more than {most} bytes.")
        return Answered(reply.status, outputs.shown(reply.body), elapsed_ms, reply.headers.raw)

    async def _has_ended(self, container: Container) -> bool:
        now = await self._store.find_by_id(Container, container.uuid, org=container.org)
        return now is None or now.status not in UP
