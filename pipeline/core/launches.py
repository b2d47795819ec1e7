"""What an agent does to bring a container up on its engine."""

from __future__ import annotations

import asyncio
import logging

from pipeline.core.counterparts import RACE_ATTEMPTS, Counterparts
from pipeline.core.devices import Devices
from pipeline.core.host_ports import HostPorts
from pipeline.core.pulling import Pulling
from pipeline.errors import (
    AlreadyExists,
    EngineError,
    EngineUnavailable,
    Fenced,
    ForeignContainer,
    ImageMissing,
    LostRace,
    PortTaken,
    PullFailed,
    YardError,
)
from pipeline.ports import EngineContainer, LaunchPlan
from pipeline.rules import launching, observation
from pipeline.settings import Settings
from schemas.commands import NodeOrder
from schemas.container import Container, Desired
from schemas.states import ContainerStatus as Status

log = logging.getLogger(__name__)

PORT_ATTEMPTS = 5


class Launches:
    """Safe to repeat at any point: what an earlier try left behind is found and used."""

    def __init__(
        self,
        counterparts: Counterparts,
        pulling: Pulling,
        devices: Devices,
        *,
        settings: Settings,
    ) -> None:
        self._counterparts = counterparts
        self._engine = counterparts.engine
        self._records = counterparts.records
        self._pulling = pulling
        self._devices = devices
        self._ports = HostPorts(settings.container_bind)
        self._simulated = bool(settings.simulated_gpus)
        self._under_way: set[tuple[str, int]] = set()

    async def launch(self, order: NodeOrder, *, last_try: bool) -> Container | None:
        """Bring the container up. Idempotent: what an earlier try left behind is adopted.

        Raises Fenced for an outdated order and whatever another try may help against; a lasting
        error makes the container FAILED, and so does any error of the container's own on the last
        try. When the engine, the store or the broker is what fails, the launch is ordered anew
        once they are back. None when the very same launch is under way already: a long pull must
        not collect a queue of repeats behind it.
        """
        if (order.container, order.fence) in self._under_way:
            return None
        self._under_way.add((order.container, order.fence))
        try:
            async with self._counterparts.alone(order.container):
                return await self._launch(order, last_try)
        finally:
            self._under_way.discard((order.container, order.fence))

    async def _launch(self, order: NodeOrder, last_try: bool) -> Container:
        for _ in range(RACE_ATTEMPTS):
            container = await self._records.mine(order.container, fence=order.fence)
            if not _is_wanted(container):
                return container
            try:
                return await self._try(container, last_try)
            except (LostRace, AlreadyExists):
                continue
        raise LostRace(f"Container {order.container} keeps changing.")

    async def _try(self, container: Container, last_try: bool) -> Container:
        try:
            return await self._bring_up(container)
        except YardError as error:
            if isinstance(error, LostRace | Fenced | AlreadyExists) or (
                error.retryable and not (last_try and _is_its_own(error))
            ):
                raise
            return await self._give_up(container, error.message)
        except Exception:
            # It is buried with its stack; the container says where to look instead of waiting.
            if last_try:
                await self._give_up(container, "the agent failed unexpectedly: see its log")
            raise

    async def _bring_up(self, container: Container) -> Container:
        if why := self._devices.unfit(container.gpus):
            return await self._counterparts.send_away(container, why)
        seen = await self._counterparts.find(container)
        if seen is not None and launching.fence_of(seen) == container.fence:
            return await self._adopt(container, seen)
        if seen is not None:
            await self._counterparts.discard(seen)
        container = await self._pulling.ensure(container)
        return await self._create(container)

    async def _adopt(self, container: Container, seen: EngineContainer) -> Container:
        """Take over what a launch that was cut short left behind."""
        if seen.state == "created":
            try:
                await self._engine.start(seen.id)
            except PortTaken:
                await self._engine.remove(seen.id)
                if _are_all_fixed(container):
                    raise
                return await self._create(container)
        settled = await self._counterparts.settle(container.uuid)
        if settled is None:
            raise LostRace(f"Container {container.uuid} was placed elsewhere meanwhile.")
        return settled

    async def _create(self, container: Container) -> Container:
        for attempt in range(PORT_ATTEMPTS):
            bindings = self._ports.bind(container.spec.ports)
            plan = launching.plan(
                container, bindings, site=self._counterparts.site, simulated=self._simulated
            )
            engine_id = await self._created(plan)
            try:
                container = await self._start(container, engine_id)
            except PortTaken:
                await self._engine.remove(engine_id)
                if _are_all_fixed(container) or attempt + 1 == PORT_ATTEMPTS:
                    raise
                container = await self._still_wanted(container)
                continue
            ports, at = [port.model_dump() for port in bindings], self._records.clock()
            values = {"ports": ports, "started_at": at, "healthy_since": at}
            return await self._records.move(
                container, Status.RUNNING, "running", None, values, ports=ports
            )
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _created(self, plan: LaunchPlan) -> str:
        try:
            return await self._engine.create(plan)
        except ImageMissing as error:
            # It was there a moment ago: somebody is tidying up.
            message = f"{plan.image} was removed from the engine during the launch."
            raise PullFailed(message, reason="failed") from error

    async def _start(self, container: Container, engine_id: str) -> Container:
        """Start it while the record learns that it is there. Returns when both have ended, so
        that nothing goes on behind the back of whoever is next."""
        values = {"engine_id": engine_id, "progress": container.progress.model_dump()}
        started, recorded = await asyncio.gather(
            self._engine.start(engine_id),
            self._records.move(container, Status.CREATED, "created", None, values),
            return_exceptions=True,
        )
        for outcome in (started, recorded):
            if isinstance(outcome, BaseException):
                raise outcome
        assert isinstance(recorded, Container)
        return recorded

    async def _still_wanted(self, container: Container) -> Container:
        """The record as it is now. Raises Fenced, and LostRace when the owner wants it no more."""
        current = await self._records.mine(container.uuid, fence=container.fence)
        if not _is_wanted(current):
            raise LostRace(f"Container {container.uuid} is not wanted any more.")
        return current

    async def _give_up(self, container: Container, reason: str) -> Container:
        container = await self._still_wanted(container)
        try:
            seen = await self._counterparts.find(container)
        except ForeignContainer:
            seen = None
        if seen is not None:
            await self._counterparts.discard(seen)
        return await self._records.move(container, Status.FAILED, "failed", reason)


def _is_wanted(container: Container) -> bool:
    return container.desired is Desired.RUNNING and container.status not in observation.OVER


def _is_its_own(error: YardError) -> bool:
    """A failure of this container, and not of what everybody stands on."""
    return isinstance(error, EngineError) and not isinstance(error, EngineUnavailable)


def _are_all_fixed(container: Container) -> bool:
    """No other host port may be tried."""
    return all(port.host for port in container.spec.ports)
