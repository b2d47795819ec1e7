"""What an agent does for containers that are up: look, restart, note their health."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pipeline.core.counterparts import Counterparts
from pipeline.core.devices import Devices
from pipeline.errors import EngineError, LostRace
from pipeline.rules import observation
from schemas.container import Container, Desired
from schemas.states import ContainerStatus as Status

if TYPE_CHECKING:
    from pipeline.ports import EngineContainer

log = logging.getLogger(__name__)


class Upkeep:
    """Every call acts only for a container whose newest launch is on this node."""

    def __init__(self, counterparts: Counterparts, devices: Devices) -> None:
        self._counterparts = counterparts
        self._records = counterparts.records
        self._devices = devices

    async def refresh(self, uuid: str) -> Container | None:
        """Make the record say what the engine shows. None when it is not a record of this node."""
        async with self._counterparts.alone(uuid):
            return await self._counterparts.settle(uuid)

    async def restart(self, uuid: str) -> None:
        """Start again what died or turned unhealthy, if that is still wanted.

        Where a GPU of it is out of order it is placed anew instead. Raises Fenced, NotFound,
        StoreUnavailable; an engine that fails puts the restart off.
        """
        async with self._counterparts.alone(uuid):
            container = await self._records.mine(uuid)
            if not _waits_for_restart(container):
                return
            if why := self._devices.unfit(container.gpus):
                await self._counterparts.send_away(container, why)
                return
            seen = await self._counterparts.of_launch(container)
            if seen is not None:
                await self._start_again(container, seen)
            await self._counterparts.settle(uuid)

    async def probed(self, uuid: str, *, fence: int, failure: str | None) -> Container:
        """Record what the health check found: a failure's text, or None for success.

        Raises Fenced, NotFound, LostRace, StoreUnavailable.
        """
        async with self._counterparts.alone(uuid):
            container = await self._records.mine(uuid, fence=fence)
            now = self._records.clock()
            if container.status is Status.RUNNING and failure is not None:
                verdict = observation.unhealthy(container, failure, now, self._counterparts.rules)
                return await self._counterparts.apply(container, verdict)
            if container.status is Status.UNHEALTHY and failure is None:
                values = {"restart_at": None, "healthy_since": now}
                return await self._records.move(container, Status.RUNNING, "running", None, values)
            return container

    async def mend(self, container: Container) -> None:
        """Look at it, and place it anew when a GPU of it is gone."""
        async with self._counterparts.alone(container.uuid):
            current = await self._records.mine(container.uuid)
            why = self._devices.lost(current.gpus)
            if why is not None and _is_wanted(current):
                await self._counterparts.send_away(current, why)
            else:
                await self._counterparts.settle(current.uuid)

    async def _start_again(self, container: Container, seen: EngineContainer) -> None:
        again = {"restarts": container.restarts + 1, "restart_at": None}
        container = await self._records.move(
            container, Status.RESTARTING, "restarting", container.reason, again
        )
        try:
            await self._counterparts.halt(seen)
            await self._counterparts.engine.start(seen.id)
        except EngineError as error:
            log.warning("container %s could not be started again: %s", container.uuid, error)
            await self._put_off(container, error)

    async def _put_off(self, container: Container, error: EngineError) -> None:
        verdict = observation.not_started(
            container, error.message, self._records.clock(), self._counterparts.rules
        )
        try:
            await self._counterparts.apply(container, verdict)
        except LostRace:
            log.info("container %s changed while it was started again", container.uuid)


def _waits_for_restart(container: Container) -> bool:
    return _is_wanted(container) and container.restart_at is not None


def _is_wanted(container: Container) -> bool:
    return container.desired is Desired.RUNNING and container.status not in observation.OVER
