"""What an agent does at an order: it brings a container up on its engine, or ends it there."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from pipeline.agent.machine import Devices
from pipeline.agent.pulling import Pulling
from pipeline.agent.reconciler import EngineReconciler
from pipeline.agent.replacing import Exchange, Replacing, without_held
from pipeline.agent.volumes import NodeVolumes
from pipeline.containers import engine_plan, observation
from pipeline.containers.changes import moved
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
from pipeline.records.kernel import Change
from pipeline.records.messages import command
from pipeline.settings import Settings
from schemas.commands import NodeOrder
from schemas.container import Container, Desired
from schemas.states import ContainerStatus as Status

log = logging.getLogger(__name__)

PORT_ATTEMPTS = 5
RACE_ATTEMPTS = 10


class Launching:
    """Safe to repeat at any point: what an earlier try left behind is found and used."""

    def __init__(
        self,
        reconciler: EngineReconciler,
        pulling: Pulling,
        volumes: NodeVolumes,
        devices: Devices,
        replacing: Replacing,
        settings: Settings,
    ) -> None:
        self._reconciler = reconciler
        self._engine = reconciler.engine
        self._containers = reconciler.containers
        self._pulling = pulling
        self._volumes = volumes
        self._replacing = replacing
        self._devices = devices
        self._ports = devices.ports
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
            async with self._reconciler.locked(order.container):
                return await self._launch(order, last_try)
        finally:
            self._under_way.discard((order.container, order.fence))

    async def _launch(self, order: NodeOrder, last_try: bool) -> Container:
        for _ in range(RACE_ATTEMPTS):
            container = await self._containers.owned(order.container, fence=order.fence)
            if not observation.is_wanted(container):
                return container
            try:
                return await self._bring_up_or_fail(container, last_try)
            except (LostRace, AlreadyExists):
                continue
        raise LostRace(f"Container {order.container} keeps changing.")

    async def _bring_up_or_fail(self, container: Container, last_try: bool) -> Container:
        try:
            return await self._bring_up(container)
        except PortTaken as error:
            return await self._elsewhere_or_fail(container, error)
        except YardError as error:
            if isinstance(error, LostRace | Fenced | AlreadyExists) or (
                error.retryable and not (last_try and _is_its_own(error))
            ):
                raise
            return await self._fail(container, error.message, error.code)
        except Exception:
            # It is dead-lettered with its stack; the container says where to look.
            if last_try:
                broken = YardError("the agent failed unexpectedly: see its log")
                await self._fail(container, broken.message, broken.code)
            raise

    async def _elsewhere_or_fail(self, container: Container, error: PortTaken) -> Container:
        """Somebody outside of Modelyard has its port: another node may do, or it waits."""
        taken = self._ports.refused(container.spec.ports)
        if not taken:
            return await self._fail(container, error.message, error.code)
        container = await self._require_wanted(container)
        await self._containers.note_in_use(taken)
        why = f"host port {', '.join(taken)} is in use on its node"
        return await self._reconciler.evict(container, why)

    async def _bring_up(self, container: Container) -> Container:
        if why := self._devices.unfit(container.gpus):
            return await self._reconciler.evict(container, why)
        seen = await self._reconciler.find(container)
        if seen is not None and engine_plan.fence_of(seen) == container.fence:
            async with self._replacing.exchange(container) as exchange:
                return await exchange.complete(await self._adopt(container, seen, exchange))
        if seen is not None:
            await self._reconciler.discard(seen)
        held = await self._replacing.held_ports(container)
        if taken := self._ports.taken(without_held(container.spec.ports, held)):
            # Before a long pull.
            raise PortTaken(f"Host port {', '.join(taken)} is in use.")
        return await self._pull_and_start(container)

    async def _pull_and_start(self, container: Container) -> Container:
        try:
            container = await self._pulling.ensure(container)
            async with self._replacing.exchange(container) as exchange:
                return await exchange.complete(await self._create_and_start(container, exchange))
        finally:
            self._pulling.assets.release(container.uuid)

    async def _adopt(
        self, container: Container, seen: EngineContainer, exchange: Exchange
    ) -> Container:
        """Take over what a launch that was cut short left behind."""
        if seen.state == "created":
            await exchange.clear_way()
            try:
                await self._engine.start(seen.id)
            except PortTaken:
                await self._engine.remove(seen.id)
                if _are_all_fixed(container):
                    raise
                return await self._create_and_start(await self._pulling.ensure(container), exchange)
        adopted = await self._reconciler.reconcile(container.uuid)
        if adopted is None:
            raise LostRace(f"Container {container.uuid} was placed elsewhere meanwhile.")
        return adopted

    async def _create_and_start(self, container: Container, exchange: Exchange) -> Container:
        volumes = await self._volumes.claim(container)
        if away := self._volumes.elsewhere(volumes):
            return await self._reconciler.evict(container, away)
        mounts = await self._volumes.mounts(container, volumes)
        mounts += self._pulling.assets.mounts(container)
        for attempt in range(PORT_ATTEMPTS):
            bindings = self._ports.bind(container.spec.ports)
            plan = engine_plan.plan(
                container,
                bindings,
                node=self._reconciler.node,
                simulated=self._simulated,
                mounts=mounts,
            )
            engine_id = await self._create(plan)
            await exchange.clear_way()
            try:
                container = await self._start(container, engine_id)
            except PortTaken:
                await self._engine.remove(engine_id)
                is_last = attempt + 1 == PORT_ATTEMPTS
                if is_last or _are_all_fixed(container) or self._ports.taken(container.spec.ports):
                    raise
                container = await self._require_wanted(container)
                continue
            ports, at = [port.model_dump() for port in bindings], self._containers.clock()
            healthy_since = None if container.has_probe else at
            values = {"ports": ports, "started_at": at, "healthy_since": healthy_since}
            return await self._containers.commit(container, moved(Status.RUNNING, values=values))
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _create(self, plan: LaunchPlan) -> str:
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
            self._containers.commit(container, moved(Status.CREATED, values=values)),
            return_exceptions=True,
        )
        for outcome in (started, recorded):
            if isinstance(outcome, BaseException):
                raise outcome
        assert isinstance(recorded, Container)
        return recorded

    async def _require_wanted(self, container: Container) -> Container:
        """The record as it is now. Raises Fenced, and LostRace when the owner wants it no more."""
        current = await self._containers.owned(container.uuid, fence=container.fence)
        if not observation.is_wanted(current):
            raise LostRace(f"Container {container.uuid} is not wanted any more.")
        return current

    async def _fail(self, container: Container, reason: str, code: str) -> Container:
        container = await self._require_wanted(container)
        try:
            seen = await self._reconciler.find(container)
        except ForeignContainer:
            seen = None
        if seen is not None:
            await self._reconciler.discard(seen)
        return await self._containers.commit(container, _failed(container, reason, code))


def _failed(container: Container, reason: str, code: str) -> Change:
    """Nothing is kept of one that was to replace another."""
    change = moved(Status.FAILED, reason, {"failure": code})
    if container.replaces is None:
        return change
    return replace(change, send=[*change.send, command("delete")])


def _is_its_own(error: YardError) -> bool:
    """A failure of this container, and not of the engine, the store or the broker."""
    return isinstance(error, EngineError) and not isinstance(error, EngineUnavailable)


def _are_all_fixed(container: Container) -> bool:
    """No other host port may be tried."""
    return all(port.host for port in container.spec.ports)


class Ending:
    """The record says what its owner wants; an order is only a reason to look at it."""

    def __init__(
        self, reconciler: EngineReconciler, pulling: Pulling, volumes: NodeVolumes
    ) -> None:
        self._reconciler = reconciler
        self._containers = reconciler.containers
        self._pulling = pulling
        self._volumes = volumes

    async def stop(self, order: NodeOrder) -> None:
        """Idempotent. Raises Fenced, EngineUnavailable."""
        await self._end(order.container, order.fence, Desired.STOPPED)

    async def remove(self, order: NodeOrder) -> None:
        """Idempotent. Raises Fenced, EngineUnavailable."""
        await self._end(order.container, order.fence, Desired.DELETED)
        # Their end may have been asked for while it held them.
        await self._volumes.sweep()

    async def enforce(self, uuid: str) -> None:
        """Carry out a stop or removal whose order never arrived."""
        container = await self._containers.owned(uuid)
        await self._end(uuid, container.fence, container.desired)

    async def discard(self, seen: EngineContainer) -> None:
        """Remove a container of ours that no record wants on this node any more."""
        async with self._reconciler.locked(engine_plan.container_of(seen.labels) or seen.id):
            await self._reconciler.discard(seen)

    async def _end(self, uuid: str, fence: int, desired: Desired) -> None:
        if not _is_called_for(await self._containers.owned(uuid, fence=fence), desired):
            return
        # Whoever launches it holds it for as long as the pull takes.
        self._pulling.interrupt(uuid)
        async with self._reconciler.locked(uuid):
            container = await self._containers.owned(uuid, fence=fence)
            if not _is_called_for(container, desired):
                return
            seen = await self._reconciler.find(container)
            if seen is not None and desired is Desired.DELETED:
                await self._reconciler.discard(seen)
            elif seen is not None:
                await self._reconciler.stop(seen)
            await self._reconciler.reconcile(uuid)


def _is_called_for(container: Container, desired: Desired) -> bool:
    """A stop that became a removal is left to the order for the removal, and so on."""
    return container.desired is desired is not Desired.RUNNING and (
        container.status is not Status.DELETED
    )
