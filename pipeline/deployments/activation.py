"""Waking a deployment that has no replica, for whoever calls it, and keeping it up meanwhile.

Records say what is wanted: whoever waits here may end with its process, and nothing is lost.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pipeline.adapters.http.connection import Headers
from pipeline.adapters.http.streaming import StreamedAnswer, StreamingHttp
from pipeline.adapters.store.store import EVERY_ORG
from pipeline.concurrency import SharedTasks
from pipeline.deployments.autoscaling import bounds
from pipeline.deployments.service import RECONCILE
from pipeline.errors import BusUnavailable, NoReplica, NotFound, Overloaded, Unreachable, YardError
from pipeline.events.hub import EventHub
from pipeline.gateway.routing import Server, server_of
from pipeline.gateway.service import mark_used
from pipeline.records.kernel import Change, Records
from pipeline.records.messages import command, event
from pipeline.settings import Settings
from schemas.container import Container, Desired
from schemas.deployment import Deployment
from schemas.node import Node
from schemas.states import ContainerStatus
from schemas.states import DeploymentStatus as Status

log = logging.getLogger(__name__)

LOOK_S: Final = 5.0
"""Events say when to look; should one be lost, it is looked at this often in any case."""
RETRY_AFTER_S: Final = 5
AGAIN_S: Final = 0.5
"""Before a replica that takes no connection is tried again: no record tells when it listens."""
TOLD: Final = 3
"""Replicas, the newest, of which the reasons of nodes are told."""
WAKER: Final = "gateway"


@dataclass(frozen=True, slots=True)
class Replica:
    """One that can be called."""

    container: Container
    server: Server


@dataclass(frozen=True, slots=True)
class Call:
    """A request, to be passed on as it is."""

    method: str
    target: bytes
    """Path and query."""
    headers: Headers
    content: AsyncIterator[bytes] | None


@dataclass(frozen=True, slots=True)
class _Seen:
    deployment: Deployment
    replicas: Sequence[Replica]


class Activation:
    """One per process. However many wait for a deployment, one asks for it and looks."""

    def __init__(self, records: Records, http: StreamingHttp, settings: Settings) -> None:
        """`http` must be allowed to contact nodes."""
        self._records = records
        self._store = records.store
        self._http = http
        self._wait_s = settings.activation_wait_s
        self._waiting_max = settings.activation_waiting_max
        self._waiting = 0
        self._turns = itertools.count()
        self._wakes = SharedTasks[_Seen]()
        self._uses = SharedTasks[None]()

    @asynccontextmanager
    async def call(
        self, deployment: Deployment, call: Call, hub: EventHub
    ) -> AsyncIterator[StreamedAnswer]:
        """What a replica answers, as `StreamingHttp.pass_on`; made when there is none.

        Raises as `ready` does, and Unreachable when a replica breaks off.
        """
        end = asyncio.get_running_loop().time() + self._wait_s
        async with self.used(deployment), AsyncExitStack() as stack:
            while True:
                replicas = await self.ready(deployment, hub)
                replica = replicas[next(self._turns) % len(replicas)]
                try:
                    origin = f"http://{replica.server.address}"
                    passing = self._http.pass_on(
                        origin, call.method, call.target, call.headers, call.content
                    )
                    answer = await stack.enter_async_context(passing)
                except Unreachable as error:
                    is_connected = "is_silent" in error.facts
                    if is_connected or asyncio.get_running_loop().time() > end:
                        raise
                    await self._pause(replica, hub)
                else:
                    yield answer
                    return

    async def ready(
        self, deployment: Deployment, hub: EventHub, *, wait_s: float | None = None
    ) -> Sequence[Replica]:
        """Replicas that can be called, at least one; made when there is none.

        `wait_s` stands in place of `activation_wait_s`. Raises NoReplica, with `nodes` and
        `retry_after_s`, when it is stopped, has failed, or nothing was ready in time; NotFound,
        Overloaded when too many wait, BusUnavailable.
        """
        known = await self._store.get(Deployment, deployment.uuid, org=deployment.org)
        if replicas := await self._replicas(known):
            return replicas
        with self._in_line():
            async with self._wakes.of(deployment.uuid, lambda: self._wake(known, hub)) as wake:
                limit_s = self._wait_s if wait_s is None else wait_s
                await asyncio.wait({wake}, timeout=limit_s)
                if wake.done():
                    return wake.result().replicas
                raise await self._refusal(deployment, f"was ready within {limit_s:g} s")

    @asynccontextmanager
    async def used(self, deployment: Deployment) -> AsyncIterator[None]:
        """While open, the deployment does not count as idle.

        Either this is told first, or what ends it: whoever then asks for `ready` sees which.
        """
        await self._mark(deployment)
        async with self._uses.of(deployment.uuid, lambda: self._keep(deployment)):
            yield

    @asynccontextmanager
    async def holding(self, container: Container) -> AsyncIterator[None]:
        """As `used`, for a call that goes to a container; one of no deployment needs nothing."""
        if container.deployment is None:
            yield
            return
        known = await self._store.get(Deployment, container.deployment, org=container.org)
        async with self.used(known):
            yield

    async def ask(self, deployment: Deployment) -> Deployment:
        """Want a replica, unless one is wanted already. Raises NoReplica, NotFound as `ready`."""
        return await self._records.amend(deployment, _demanded, actor=WAKER)

    @contextmanager
    def _in_line(self) -> Iterator[None]:
        if self._waiting >= self._waiting_max:
            raise Overloaded(
                f"{self._waiting_max} calls wait for replicas already: try again.",
                retry_after_s=RETRY_AFTER_S,
            )
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    async def _pause(self, replica: Replica, hub: EventHub) -> None:
        """Until there is news of a replica that takes no connection, or a moment."""
        watched = replica.container
        with self._in_line(), hub.watch(watched.org, Container.resource, watched.uuid) as watch:
            await watch.moved(AGAIN_S)

    async def _wake(self, deployment: Deployment, hub: EventHub) -> _Seen:
        with hub.watch(deployment.org, Deployment.resource, deployment.uuid) as watch:
            seen = await self._demand(deployment)
            seen = await watch.until(_is_ready, seen, self._look, look_every_s=LOOK_S)
        if not seen.replicas:
            raise BusUnavailable("The server is stopping: call again.")
        return seen

    async def _look(self, seen: _Seen) -> _Seen:
        known = seen.deployment
        current = await self._store.get(Deployment, known.uuid, org=known.org)
        if current.status is Status.FAILED and not current.replicas:
            raise await self._refusal(current, "becomes ready")
        return await self._demand(current)

    async def _demand(self, deployment: Deployment) -> _Seen:
        """Want a replica, unless one is wanted already, and see what there is."""
        deployment = await self.ask(deployment)
        replicas = await self._replicas(deployment)
        if not replicas and deployment.status is Status.FAILED:
            raise await self._refusal(deployment, "becomes ready")
        return _Seen(deployment, replicas)

    async def _replicas(self, deployment: Deployment) -> Sequence[Replica]:
        """Of a record as it is now: what it does not want any more may end at any moment."""
        numbers = [slot.number for slot in deployment.slots] if deployment.wanted else []
        where: dict[str, Any] = {"deployment": deployment.uuid, "replica": {"$in": numbers}}
        where["status"] = ContainerStatus.RUNNING.value
        up = await self._store.find(Container, org=deployment.org, where=where, sort=())
        if any(each.healthy_since and not each.ports for each in up):
            raise NoReplica(f"{deployment.name} publishes no port that could be called.")
        on = {"_id": {"$in": [each.node for each in up]}}
        nodes = await self._store.find(Node, org=EVERY_ORG, where=on, sort=()) if up else []
        hosts = {node.uuid: node.address for node in nodes}
        found = ((each, server_of(each, hosts.get(each.node or ""))) for each in up)
        return [Replica(each, server) for each, server in found if server and not server.draining]

    async def _refusal(self, deployment: Deployment, what: str) -> NoReplica:
        """Why there is none, with the reasons of nodes."""
        current = await self._store.get(Deployment, deployment.uuid, org=deployment.org)
        # What no node takes is removed at once; its record keeps the reasons.
        newest = {"deployment": deployment.uuid, "replica": {"$gte": current.next_number - TOLD}}
        made = await self._store.find(Container, org=deployment.org, where=newest, sort=())
        nodes = {node: why for each in made for node, why in each.refusals.items()}
        reason = f": {current.reason}" if current.reason else "."
        return NoReplica(
            f"No replica of {current.name} {what}{reason}", nodes=nodes, retry_after_s=RETRY_AFTER_S
        )

    async def _keep(self, deployment: Deployment) -> None:
        """Put off, again and again, that it counts as idle."""
        rest_s = deployment.rests_after_s
        while rest_s is not None:
            await asyncio.sleep(max(rest_s / 4, AGAIN_S))
            try:
                await self._mark(deployment)
            except YardError as error:
                log.warning("that %s is used cannot be told: %s", deployment.name, error.message)

    async def _mark(self, deployment: Deployment) -> None:
        current = await self._store.get(Deployment, deployment.uuid, org=deployment.org)
        await mark_used(self._store, current, self._records.clock())


def _is_ready(seen: _Seen) -> bool:
    return bool(seen.replicas)


def _demanded(now: Deployment, at: datetime) -> Change | None:
    if now.desired is Desired.DELETED:
        raise NotFound("There is no such deployment.")
    if now.desired is Desired.STOPPED:
        raise NoReplica(
            f"The deployment {now.name} is stopped: start it.", retry_after_s=RETRY_AFTER_S
        )
    if now.replicas:
        return None
    limits = bounds(now, at)
    if limits.high == 0:
        raise NoReplica(
            f"The deployment {now.name} has no replica now: {limits.why}.",
            retry_after_s=RETRY_AFTER_S,
        )
    values: dict[str, Any] = {"replicas": max(limits.low, 1)}
    if now.template.hash != now.good or now.status is Status.FAILED:
        # It gets its time once more.
        values |= {"blame": None, "failures": 0, "replace_at": None}
    after = now.model_copy(update=values)
    values |= {"rollout_since": at, "idle_at": after.idle_when_used(at)}
    return Change(
        values,
        status=Status.DEPLOYING,
        reason="it is called and has no replica",
        send=[event("demanded"), command(RECONCILE)],
    )
