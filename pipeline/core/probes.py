"""HTTP health checks that an agent makes for the containers that asked for one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from pipeline.core.launches import Launches
from pipeline.core.restarts import Restarts
from pipeline.errors import YardError
from schemas.container import Container, HealthCheck
from schemas.states import ContainerStatus as Status

log = logging.getLogger(__name__)

Ask = Callable[[str, float], Awaitable[int]]
"""GET an URL within some seconds; returns the status code, raises YardError."""

PROBED = frozenset({Status.RUNNING, Status.UNHEALTHY})


class Probes:
    """One task per probed container; it ends when the container no longer runs."""

    def __init__(self, launches: Launches, restarts: Restarts, ask: Ask) -> None:
        self._launches = launches
        self._restarts = restarts
        self._ask = ask
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def follow(self, container: Container) -> None:
        """Begin to probe a container that runs, unless it is probed already. Idempotent."""
        check = container.spec.health
        running = self._tasks.get(container.uuid)
        if check is None or container.status not in PROBED or (running and not running.done()):
            return
        self._tasks[container.uuid] = asyncio.create_task(self._probe(container, check))

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _probe(self, container: Container, check: HealthCheck) -> None:
        failures = 0
        await asyncio.sleep(check.start_period_s)
        while True:
            failure = await self._fails(container, check)
            failures = failures + 1 if failure else 0
            if failure is None or failures >= check.retries:
                try:
                    current = await self._launches.probed(container.uuid, failure=failure)
                except YardError as error:
                    log.warning("health of container %s not recorded: %s", container.uuid, error)
                else:
                    if current is None or current.status not in PROBED:
                        del self._tasks[container.uuid]
                        return
                    container = current
                    self._restarts.follow(current)
            await asyncio.sleep(check.interval_s)

    async def _fails(self, container: Container, check: HealthCheck) -> str | None:
        port = next((p for p in container.ports if p.internal == check.port), None)
        if port is None:
            return f"its health check fails: port {check.port} is not published"
        try:
            status = await self._ask(
                f"http://{port.address}:{port.host}{check.path}", check.timeout_s
            )
        except YardError as error:
            return f"its health check fails: {error.message}"
        return None if 200 <= status < 400 else f"its health check answered {status}"
