"""What an agent does for containers that are up: look, restart, probe, and note their health."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime

from pipeline import concurrency
from pipeline.agent.machine import Devices
from pipeline.agent.reconciler import EngineReconciler
from pipeline.containers import observation
from pipeline.containers.changes import moved
from pipeline.errors import EngineError, Fenced, LostRace, NotFound, PortTaken, YardError
from pipeline.ports import EngineContainer
from pipeline.records.kernel import Clock
from schemas.container import Container, HealthCheck
from schemas.states import ContainerStatus as Status

log = logging.getLogger(__name__)
Ask = Callable[[str, float], Awaitable[int]]
"""Ask an URL, http or grpc, within some seconds; returns the code of HTTP, raises YardError."""

STARTING_INTERVAL_S = 1.0
"""Between two looks at a container that has not answered yet, at most."""
PROBED = frozenset({Status.RUNNING, Status.UNHEALTHY})


class ContainerCare:
    """Every call acts only for a container whose newest launch is on this node."""

    def __init__(self, reconciler: EngineReconciler, devices: Devices) -> None:
        self._reconciler = reconciler
        self._containers = reconciler.containers
        self._devices = devices

    async def refresh(self, uuid: str) -> Container | None:
        """Make the record say what the engine shows. None when it is not a record of this node."""
        async with self._reconciler.locked(uuid):
            return await self._reconciler.reconcile(uuid)

    async def restart(self, uuid: str) -> None:
        """Start again what died or turned unhealthy, if that is still wanted.

        Where a GPU of it is out of order it is placed anew instead. Raises Fenced, NotFound,
        StoreUnavailable; an engine that fails puts the restart off.
        """
        async with self._reconciler.locked(uuid):
            container = await self._containers.owned(uuid)
            if not observation.is_wanted(container) or container.restart_at is None:
                return
            if why := self._devices.unfit(container.gpus):
                await self._reconciler.evict(container, why)
                return
            seen = await self._reconciler.find_current(container)
            if seen is not None:
                await self._start_again(container, seen)
            await self._reconciler.reconcile(uuid)

    async def record_health(self, uuid: str, *, fence: int, failure: str | None) -> Container:
        """Record what the health check found: a failure's text, or None for success.

        Raises Fenced, NotFound, LostRace, StoreUnavailable.
        """
        async with self._reconciler.locked(uuid):
            container = await self._containers.owned(uuid, fence=fence)
            now = self._containers.clock()
            if container.status is Status.RUNNING and failure is not None:
                move = observation.unhealthy(container, failure, now, self._reconciler.rules)
                return await self._containers.commit(container, moved(*move))
            is_news = container.status in PROBED and container.healthy_since is None
            if failure is None and is_news:
                values = {"restart_at": None, "healthy_since": now}
                kind = "healthy" if container.status is Status.RUNNING else None
                change = moved(Status.RUNNING, None, values, kind)
                return await self._containers.commit(container, change)
            return container

    async def repair(self, uuid: str) -> None:
        """Look at it, and place it anew when a GPU of it is gone."""
        async with self._reconciler.locked(uuid):
            container = await self._containers.owned(uuid)
            why = self._devices.lost(container.gpus)
            if why is not None and observation.is_wanted(container):
                await self._reconciler.evict(container, why)
            else:
                await self._reconciler.reconcile(uuid)

    async def _start_again(self, container: Container, seen: EngineContainer) -> None:
        again = {"restarts": container.restarts + 1, "restart_at": None}
        change = moved(Status.RESTARTING, container.reason, again)
        container = await self._containers.commit(container, change)
        try:
            await self._reconciler.stop(seen)
            await self._reconciler.engine.start(seen.id)
        except PortTaken:
            # Its ports are those of its container: only another container gets others.
            await self._reconciler.evict(container, "a host port that it had is in use")
        except EngineError as error:
            log.warning("container %s could not be started again: %s", container.uuid, error)
            await self._put_off(container, error)

    async def _put_off(self, container: Container, error: EngineError) -> None:
        now, rules = self._containers.clock(), self._reconciler.rules
        move = observation.not_started(container, error.message, now, rules)
        try:
            await self._containers.commit(container, moved(*move))
        except LostRace:
            log.info("container %s changed while it was started again", container.uuid)


class Restarts:
    """At most one timer per container; a newer time replaces the older one."""

    def __init__(
        self, restart: Callable[[str], Awaitable[None]], *, node: str, retry_s: float, clock: Clock
    ) -> None:
        self._restart = restart
        self._node = node
        self._retry_s = retry_s
        self._clock = clock
        self._timers: dict[str, tuple[datetime, asyncio.Task[None]]] = {}
        self._running: set[asyncio.Task[None]] = set()

    def follow(self, container: Container) -> None:
        """Arm, move or disarm the timer of a container as its record says."""
        at = container.restart_at if container.node == self._node else None
        armed = self._timers.get(container.uuid)
        if armed and armed[0] == at:
            return
        if armed:
            armed[1].cancel()
            del self._timers[container.uuid]
        if at is not None:
            task = asyncio.create_task(self._wait(container.uuid, at))
            self._timers[container.uuid] = (at, task)
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def close(self) -> None:
        """Forget all timers; the next agent arms them again from the records."""
        self._timers.clear()
        await concurrency.cancel_and_wait(*self._running)

    async def _wait(self, uuid: str, at: datetime) -> None:
        await asyncio.sleep(max(0.0, (at - self._clock()).total_seconds()))
        # From here on a new time must not cancel the restart that is under way.
        self._timers.pop(uuid, None)
        while True:
            try:
                await self._restart(uuid)
                return
            except YardError as error:
                log.warning("could not restart container %s yet: %s", uuid, error)
                if not error.retryable:
                    return
            await asyncio.sleep(self._retry_s)


class Probes:
    """One task per run of a probed container: after a restart its start period begins anew."""

    def __init__(self, care: ContainerCare, ask: Ask, *, node: str) -> None:
        self._care = care
        self._ask = ask
        self._node = node
        self._probes: dict[str, _Probe] = {}

    def follow(self, container: Container) -> None:
        """Probe it while it runs on this node, and only then. Idempotent."""
        check, probe = container.spec.health, self._probes.get(container.uuid)
        is_asked = _is_asked(container) and container.node == self._node
        if is_asked and probe is not None and probe.is_of(container):
            probe.container = container
            return
        if probe is not None:
            del self._probes[container.uuid]
            probe.end()
        if check is not None and is_asked:
            self._probes[container.uuid] = _Probe(container, check, self._care, self._ask)

    async def close(self) -> None:
        probes = list(self._probes.values())
        self._probes.clear()
        await concurrency.cancel_and_wait(*(probe.task for probe in probes))


def _is_asked(container: Container) -> bool:
    check = container.spec.health
    if check is None or container.status not in PROBED:
        return False
    return not check.until_ready or container.healthy_since is None


class _Probe:
    def __init__(
        self, container: Container, check: HealthCheck, care: ContainerCare, ask: Ask
    ) -> None:
        self.container = container
        """As its record was when this agent last read or wrote it."""
        self._check = check
        self._care = care
        self._ask = ask
        self.task = asyncio.create_task(self._run(), name=f"probe {container.uuid}")

    def is_of(self, container: Container) -> bool:
        """The same launch, started as often, and still at it."""
        probed = self.container
        same_run = (probed.fence, probed.restarts) == (container.fence, container.restarts)
        return same_run and not self.task.done()

    def end(self) -> None:
        # The probe that has found out itself that there is no more to do ends without help.
        if self.task is not asyncio.current_task():
            self.task.cancel()

    async def _run(self) -> None:
        failures, loop = 0, asyncio.get_running_loop()
        patient_until = loop.time() + self._check.start_period_s
        while _is_asked(self.container):
            failure = await self._failure()
            if failure is None:
                failures, patient_until = 0, 0.0
            elif loop.time() >= patient_until:
                failures += 1
            if self._is_news(failure, failures):
                try:
                    await self._record(failure)
                except (Fenced, NotFound):
                    return
            is_ready = self.container.healthy_since is not None
            interval_s = self._check.interval_s
            await asyncio.sleep(interval_s if is_ready else min(interval_s, STARTING_INTERVAL_S))

    def _is_news(self, failure: str | None, failures: int) -> bool:
        if failure is None:
            return self.container.healthy_since is None
        return self.container.status is Status.RUNNING and failures >= self._check.retries

    async def _record(self, failure: str | None) -> None:
        uuid, fence = self.container.uuid, self.container.fence
        try:
            self.container = await self._care.record_health(uuid, fence=fence, failure=failure)
        except (Fenced, NotFound):
            raise
        except YardError as error:
            log.warning("health of container %s is not recorded: %s", uuid, error)

    async def _failure(self) -> str | None:
        check, ports = self._check, self.container.ports
        port = next((port for port in ports if port.internal == check.port), None)
        if port is None:
            return f"its health check fails: port {check.port} is not published"
        try:
            status = await self._ask(
                f"{check.protocol}://{port.address}:{port.host}{check.path}", check.timeout_s
            )
        except YardError as error:
            return f"its health check fails: {error.message}"
        return None if 200 <= status < 400 else f"its health check answered {status}"
