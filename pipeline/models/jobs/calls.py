"""Calls of a version, answered by a replica of its deployment, which is made when there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pipeline import concurrency, errors
from pipeline.adapters.http.guarded import Limits
from pipeline.deployments.activation import Activation
from pipeline.events.hub import EventHub
from pipeline.models.jobs.job import fault_of
from pipeline.models.jobs.serving import ServedVersions
from pipeline.models.runtime import outputs
from pipeline.models.runtime.client import ModelClient
from pipeline.models.runtime.starts import UP
from pipeline.models.service import load
from pipeline.records.kernel import Records
from pipeline.settings import Settings
from schemas.access import Principal
from schemas.base import Fault
from schemas.container import Container
from schemas.deployment import Deployment
from schemas.model import ModelVersion
from schemas.states import DeploymentStatus

LOOK_S: Final = 0.5
"""Events say when to look; this often it is looked at in any case."""
ATTEMPTS: Final = 3
"""Containers that may vanish under one call before it is sent."""
LONGEST_S: Final = 7 * 86400
"""A call waits as long as its caller does, and no replica is given up."""

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
    """The waiting side of a version: nothing is lost when it is not there any more."""

    def __init__(
        self,
        records: Records,
        serving: ServedVersions,
        activation: Activation,
        client: ModelClient,
        settings: Settings,
    ) -> None:
        self._store = records.store
        self._clock = records.clock
        self._serving = serving
        self._activation = activation
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
            deployment = await self._serving.deployment(caller, version)
            async with self._activation.used(deployment):
                container = await self._container(deployment, hub, has_left)
                if isinstance(container, Fault):
                    return container
                if container and (outcome := await self._asked(caller, version, container, body)):
                    return outcome
            version = await self._look(version)
        raise errors.Conflict(
            "The container of the version is ended again and again: try again later."
        )

    async def shut_down(self, caller: Principal, version: ModelVersion, *, hub: EventHub) -> None:
        """Returns once there is no container, or was none."""
        version = await self._serving.end(caller, version)
        for ending in await self._serving.ending(version):
            with hub.watch(ending.org, Deployment.resource, ending.uuid) as watch:
                left = await watch.until(_is_gone, ending, self._reread, look_every_s=LOOK_S)
            if not _is_gone(left):
                raise errors.BusUnavailable(
                    "The server is stopping; the shutdown goes on: ask again."
                )

    async def _container(
        self, deployment: Deployment, hub: EventHub, has_left: HasLeft
    ) -> Container | Fault | None:
        """One that answers, as soon as there is one; None when the deployment ended meanwhile."""
        ready = self._activation.ready(deployment, hub, wait_s=LONGEST_S)
        waiting = asyncio.create_task(ready, name=f"wait for {deployment.name}")
        try:
            while not (await asyncio.wait({waiting}, timeout=LOOK_S))[0]:
                if await has_left():
                    raise errors.Conflict("The caller left before the model was up.")
            return (await waiting)[0].container
        except errors.NoReplica as error:
            current = await self._reread(deployment)
            return current.fault or fault_of(error)
        except errors.NotFound:
            return None
        finally:
            await concurrency.cancel_and_wait(waiting)

    async def _reread(self, last: Deployment) -> Deployment:
        return await self._store.get(Deployment, last.uuid, org=last.org)

    async def _look(self, last: ModelVersion) -> ModelVersion:
        return await load(self._store, last.org, last.model, last.version)

    async def _asked(
        self, caller: Principal, version: ModelVersion, container: Container, body: bytes
    ) -> Answered | Fault | None:
        """None when the container was ended before it could be asked."""
        name, timeout_s = version.inputs[0].name, version.timeouts.run_ms / 1000
        try:
            return await self._answer(caller, container, body, name, timeout_s)
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


def _is_gone(deployment: Deployment) -> bool:
    return deployment.status is DeploymentStatus.DELETED
