"""Timers for containers that wait for a restart. The record holds the time; this only keeps it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime

from pipeline import tasks
from pipeline.core import records
from pipeline.errors import YardError
from schemas.container import Container

log = logging.getLogger(__name__)


class Restarts:
    """At most one timer per container; a newer time replaces the older one."""

    def __init__(
        self,
        restart: Callable[[str], Awaitable[None]],
        *,
        node: str,
        retry_s: float,
        clock: records.Clock,
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
        await tasks.end(*self._running)

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
