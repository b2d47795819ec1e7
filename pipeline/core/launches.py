"""What an agent does on its engine for one container: launch, stop, remove, restart, look."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from pipeline.core.host_ports import HostPorts
from pipeline.core.node_records import NodeRecords
from pipeline.core.pulling import Pulling
from pipeline.errors import (
    EngineError,
    EngineUnavailable,
    Fenced,
    ForeignContainer,
    LostRace,
    NotFound,
    PortTaken,
)
from pipeline.ports import Engine, EngineContainer
from pipeline.rules import launching, observation
from pipeline.settings import Settings
from schemas.commands import NodeOrder
from schemas.container import Container, Desired
from schemas.states import ContainerStatus as Status

log = logging.getLogger(__name__)

PORT_ATTEMPTS = 5
RACE_ATTEMPTS = 10


class Launches:
    """Orders about one container run one after the other; different containers run side by side."""

    def __init__(
        self,
        engine: Engine,
        records: NodeRecords,
        pulling: Pulling,
        *,
        site: launching.Site,
        settings: Settings,
    ) -> None:
        self._engine = engine
        self._records = records
        self._pulling = pulling
        self._ports = HostPorts(settings.container_bind)
        self._site = site
        self._rules = observation.RestartRules(
            first_s=settings.restart_backoff_s,
            max_s=settings.restart_backoff_max_s,
            reset_s=settings.restart_reset_s,
        )
        self._grace_s = settings.stop_grace_s
        self._simulated = bool(settings.simulated_gpus)
        self._under_way: set[tuple[str, int]] = set()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def launch(self, order: NodeOrder, *, last_try: bool) -> Container | None:
        """Bring the container up. Idempotent: what an earlier try left behind is adopted.

        Raises Fenced for an outdated order and retryable EngineErrors; a lasting one makes the
        container FAILED, and so does a retryable one on the last try, unless the engine is gone:
        then the launch is ordered anew once the engine is back. None when the very same launch
        is under way already: a long pull must not collect a queue of repeats behind it.
        """
        if (order.container, order.fence) in self._under_way:
            return None
        self._under_way.add((order.container, order.fence))
        try:
            return await self._launch(order, last_try)
        finally:
            self._under_way.discard((order.container, order.fence))

    async def _launch(self, order: NodeOrder, last_try: bool) -> Container:
        async with self._alone(order.container):
            for _ in range(RACE_ATTEMPTS):
                container = await self._current(order)
                if container.desired is not Desired.RUNNING or container.status in observation.OVER:
                    return container
                try:
                    return await self._bring_up(container)
                except LostRace:
                    continue
                except EngineError as error:
                    if error.retryable and (not last_try or isinstance(error, EngineUnavailable)):
                        raise
                    return await self._give_up(container, error)
            raise LostRace(f"Container {order.container} keeps changing.")

    async def stop(self, order: NodeOrder) -> None:
        """Idempotent. Raises Fenced, EngineUnavailable."""
        async with self._alone(order.container):
            container = await self._current(order)
            seen = await self._find(container)
            if seen is not None and seen.running:
                await self._engine.stop(seen.id, grace_s=self._grace_s)
            await self._settle(order.container)

    async def remove(self, order: NodeOrder) -> None:
        """Idempotent. Raises Fenced, EngineUnavailable."""
        async with self._alone(order.container):
            container = await self._current(order)
            if container.status is Status.DELETED:
                return
            seen = await self._find(container)
            if seen is not None:
                await self._discard(seen)
            await self._settle(order.container)

    async def restart(self, uuid: str) -> None:
        """Start again what died or turned unhealthy, if that is still wanted."""
        async with self._alone(uuid):
            container = await self._records.load(uuid)
            if container.desired is not Desired.RUNNING or container.restart_at is None:
                return
            seen = await self._find(container)
            if seen is None:
                await self._settle(uuid)
                return
            again = {"restarts": container.restarts + 1, "restart_at": None}
            await self._records.move(
                container, Status.RESTARTING, "restarting", container.reason, again
            )
            if seen.running:
                await self._engine.stop(seen.id, grace_s=self._grace_s)
            await self._engine.start(seen.id)
            await self._settle(uuid)

    async def enforce(self, uuid: str) -> None:
        """Carry out a stop or removal whose order never arrived."""
        container = await self._records.load(uuid)
        order = NodeOrder(container=uuid, org=container.org, fence=container.fence)
        if container.desired is Desired.STOPPED:
            await self.stop(order)
        elif container.desired is Desired.DELETED:
            await self.remove(order)

    async def refresh(self, uuid: str) -> Container | None:
        """Make the record say what the engine shows. None when there is no record."""
        async with self._alone(uuid):
            return await self._settle(uuid)

    async def discard(self, seen: EngineContainer) -> None:
        """Remove a container of ours that no record wants on this node any more."""
        async with self._alone(launching.container_of(seen.labels) or seen.id):
            await self._discard(seen)

    async def probed(self, uuid: str, *, failure: str | None) -> Container | None:
        """Record what the health check found: a failure's text, or None for success."""
        async with self._alone(uuid):
            container = await self._records.load(uuid)
            now = self._records.clock()
            if container.status is Status.RUNNING and failure is not None:
                verdict = observation.unhealthy(container, failure, now, self._rules)
                return await self._apply(container, verdict)
            if container.status is Status.UNHEALTHY and failure is None:
                values = {"restart_at": None, "healthy_since": now}
                return await self._records.move(container, Status.RUNNING, "running", None, values)
            return container

    # --- under the container's lock -----------------------------------------------------------

    @asynccontextmanager
    async def _alone(self, uuid: str) -> AsyncIterator[None]:
        # Whoever waits keeps the lock alive; when nobody does, it is forgotten.
        lock = self._locks.setdefault(uuid, asyncio.Lock())
        async with lock:
            yield

    async def _current(self, order: NodeOrder) -> Container:
        container = await self._records.load(order.container)
        if order.fence < container.fence or container.node != self._site.node:
            raise Fenced(
                f"Order {order.fence} for container {container.uuid} is outdated: the newest"
                f" launch is {container.fence}."
            )
        return container

    async def _find(self, container: Container) -> EngineContainer | None:
        """The container's own counterpart. Raises ForeignContainer, Fenced."""
        seen = await self._engine.inspect(launching.name_of(container.uuid, self._site.node))
        if seen is None:
            return None
        if not self._site.owns(seen):
            raise ForeignContainer(f"The name {seen.name} is held by a container of somebody else.")
        if launching.fence_of(seen) > container.fence:
            raise Fenced(f"A newer launch of {container.uuid} is on this engine already.")
        return seen

    async def _bring_up(self, container: Container) -> Container:
        seen = await self._find(container)
        if seen is not None and launching.fence_of(seen) == container.fence:
            return await self._adopt(container, seen)
        if seen is not None:
            await self._discard(seen)
        container = await self._pulling.ensure(container)
        return await self._create(container)

    async def _adopt(self, container: Container, seen: EngineContainer) -> Container:
        """Take over what a launch that was cut short left behind."""
        if seen.state == "created":
            await self._engine.start(seen.id)
        settled = await self._settle(container.uuid)
        assert settled is not None
        return settled

    async def _create(self, container: Container) -> Container:
        fixed = any(port.host for port in container.spec.ports)
        for attempt in range(PORT_ATTEMPTS):
            bindings = self._ports.bind(container.spec.ports)
            plan = launching.plan(container, bindings, site=self._site, simulated=self._simulated)
            engine_id = await self._engine.create(plan)
            try:
                container, _ = await asyncio.gather(
                    self._created(container, engine_id), self._engine.start(engine_id)
                )
            except PortTaken:
                await self._engine.remove(engine_id)
                if fixed or attempt + 1 == PORT_ATTEMPTS:
                    raise
                container = await self._records.load(container.uuid)
                continue
            values = {
                "ports": [port.model_dump() for port in bindings],
                "started_at": self._records.clock(),
                "healthy_since": self._records.clock(),
            }
            return await self._records.move(
                container, Status.RUNNING, "running", None, values, ports=values["ports"]
            )
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _created(self, container: Container, engine_id: str) -> Container:
        return await self._records.move(
            container, Status.CREATED, "created", None, {"engine_id": engine_id}
        )

    async def _discard(self, seen: EngineContainer) -> None:
        if seen.running:
            await self._engine.stop(seen.id, grace_s=self._grace_s)
        await self._engine.remove(seen.id)

    async def _give_up(self, container: Container, error: EngineError) -> Container:
        container = await self._records.load(container.uuid)
        if not isinstance(error, ForeignContainer):
            seen = await self._find(container)
            if seen is not None:
                await self._discard(seen)
        return await self._records.move(container, Status.FAILED, "failed", error.message)

    async def _settle(self, uuid: str) -> Container | None:
        for _ in range(RACE_ATTEMPTS):
            try:
                container = await self._records.load(uuid)
            except NotFound:
                return None
            if container.node != self._site.node:
                return container
            seen = await self._find(container)
            verdict = observation.judge(
                container, seen, now=self._records.clock(), rules=self._rules
            )
            if verdict is None:
                return container
            try:
                return await self._apply(container, verdict)
            except LostRace:
                continue
        raise LostRace(f"Container {uuid} keeps changing.")

    async def _apply(self, container: Container, verdict: observation.Verdict) -> Container:
        kind = verdict.status.lower()
        facts = {k: v for k, v in verdict.values.items() if k in ("ports", "exit_code")}
        return await self._records.move(
            container, verdict.status, kind, verdict.reason, dict(verdict.values), **facts
        )
