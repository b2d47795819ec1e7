"""HTTP health checks that an agent makes for the containers that asked for one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from pipeline import tasks
from pipeline.core.upkeep import Upkeep
from pipeline.errors import Fenced, NotFound, YardError
from schemas.container import Container, HealthCheck
from schemas.states import ContainerStatus as Status

log = logging.getLogger(__name__)

Ask = Callable[[str, float], Awaitable[int]]
"""GET an URL within some seconds; returns the status code, raises YardError."""

PROBED = frozenset({Status.RUNNING, Status.UNHEALTHY})


class Probes:
    """One task per run of a probed container: after a restart its start period begins anew."""

    def __init__(self, upkeep: Upkeep, ask: Ask, *, node: str) -> None:
        self._upkeep = upkeep
        self._ask = ask
        self._node = node
        self._probes: dict[str, _Probe] = {}

    def follow(self, container: Container) -> None:
        """Probe it while it runs on this node, and only then. Idempotent."""
        check, probe = container.spec.health, self._probes.get(container.uuid)
        is_up = container.status in PROBED and container.node == self._node
        if check is not None and is_up and probe is not None and probe.is_of(container):
            probe.container = container
            return
        if probe is not None:
            del self._probes[container.uuid]
            probe.end()
        if check is not None and is_up:
            self._probes[container.uuid] = _Probe(container, check, self._upkeep, self._ask)

    async def close(self) -> None:
        probes = list(self._probes.values())
        self._probes.clear()
        await tasks.end(*(probe.task for probe in probes))


class _Probe:
    def __init__(self, container: Container, check: HealthCheck, upkeep: Upkeep, ask: Ask) -> None:
        self.container = container
        """As its record was when this agent last read or wrote it."""
        self._check = check
        self._upkeep = upkeep
        self._ask = ask
        self.task = asyncio.create_task(self._run(), name=f"probe {container.uuid}")

    def is_of(self, container: Container) -> bool:
        """The same launch, started as often, and still at it."""
        mine = self.container
        same_run = (mine.fence, mine.restarts) == (container.fence, container.restarts)
        return same_run and not self.task.done()

    def end(self) -> None:
        # The probe that has found out itself that there is no more to do ends without help.
        if self.task is not asyncio.current_task():
            self.task.cancel()

    async def _run(self) -> None:
        failures = 0
        await asyncio.sleep(self._check.start_period_s)
        while self.container.status in PROBED:
            failure = await self._failure()
            failures = failures + 1 if failure else 0
            if self._is_news(failure, failures):
                try:
                    await self._tell(failure)
                except (Fenced, NotFound):
                    return
            await asyncio.sleep(self._check.interval_s)

    def _is_news(self, failure: str | None, failures: int) -> bool:
        if failure is None:
            return self.container.status is Status.UNHEALTHY
        return self.container.status is Status.RUNNING and failures >= self._check.retries

    async def _tell(self, failure: str | None) -> None:
        uuid, fence = self.container.uuid, self.container.fence
        try:
            self.container = await self._upkeep.probed(uuid, fence=fence, failure=failure)
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
                f"http://{port.address}:{port.host}{check.path}", check.timeout_s
            )
        except YardError as error:
            return f"its health check fails: {error.message}"
        return None if 200 <= status < 400 else f"its health check answered {status}"
