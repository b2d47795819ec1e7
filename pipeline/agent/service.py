"""The agent beside one engine: its parts, and what they do over time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pipeline import concurrency
from pipeline.agent.builds.service import Building
from pipeline.agent.container_care import ContainerCare, Probes, Restarts
from pipeline.agent.container_io import ContainerIO
from pipeline.agent.orders import Ending, Launching
from pipeline.agent.output import ContainerOutput
from pipeline.agent.reconciler import EngineReconciler
from pipeline.agent.registration import Registration
from pipeline.agent.sampling import Sampling
from pipeline.agent.volumes import NodeVolumes
from pipeline.builds.specs import BUILT
from pipeline.containers import engine_plan, observation
from pipeline.errors import EngineUnavailable, Misconfigured, NotFound, StoreUnavailable, YardError
from pipeline.ports import EngineContainer
from pipeline.settings import Settings
from schemas.container import Container, Desired
from schemas.states import ContainerStatus as Status
from schemas.states import NodeStatus

log = logging.getLogger(__name__)

RETRY_S = 1
NOTABLE = frozenset({"die", "oom", "start", "destroy", "pause", "unpause", "health_status"})
RECONNECT_S, LONGEST_RECONNECT_S = 0.25, 4.0
AT_ONCE = 8
"""Containers that are compared side by side: one that takes its grace to stop holds up no other."""


@dataclass(frozen=True, slots=True)
class Agent:
    """`launching` and `ending` carry out orders; `run` does everything that nobody has to order."""

    settings: Settings
    uuid: str
    registration: Registration
    launching: Launching
    ending: Ending
    volumes: NodeVolumes
    watching: Watching
    output: ContainerOutput
    io: ContainerIO
    restarts: Restarts
    probes: Probes
    sampling: Sampling
    building: Building
    beating: asyncio.Lock = field(default_factory=asyncio.Lock)
    """A heartbeat that began before everything was compared must not end after the one that says
    so: the node would be put back."""

    @property
    def services(self) -> Mapping[str, Callable[[bytes], AsyncIterator[bytes]]]:
        """What answers one request of others, by the name under which it is asked for."""
        return {**self.io.services, BUILT: self.building.built}

    async def run(self) -> None:
        """Heartbeat, watch and reconcile until cancelled.

        Raises Misconfigured when another machine is this node.
        """
        unreconciled = asyncio.Event()
        unreconciled.set()
        await concurrency.gather_or_cancel(
            self._beat(unreconciled),
            self._reconcile(unreconciled),
            self.watching.watch(unreconciled.set),
            self.sampling.run(),
            self.output.run(),
        )

    async def close(self) -> None:
        await self.building.close()
        await self.probes.close()
        await self.restarts.close()

    async def _beat(self, unreconciled: asyncio.Event) -> None:
        """Whenever the node is not READY its containers have to be compared anew."""
        while True:
            try:
                async with self.beating:
                    node = await self.registration.beat(reconciled=not unreconciled.is_set())
            except Misconfigured:
                raise
            except YardError as error:
                log.warning("heartbeat not recorded: %s", error)
            except Exception:
                log.exception("heartbeat not recorded")
            else:
                if node.status is not NodeStatus.READY:
                    unreconciled.set()
            await asyncio.sleep(self.settings.heartbeat_interval_s)

    async def _reconcile(self, unreconciled: asyncio.Event) -> None:
        while True:
            await concurrency.comes_within(unreconciled, self.settings.reconcile_interval_s)
            if not await self._is_reconciled(unreconciled):
                await asyncio.sleep(RETRY_S)

    async def _is_reconciled(self, unreconciled: asyncio.Event) -> bool:
        """True when everything is understood and the node is READY."""
        try:
            await self.registration.require_own()
            await self.watching.reconcile()
            await self.volumes.sweep()
            await self.building.look()
            self.registration.images_changed()
            async with self.beating:
                node = await self.registration.beat(reconciled=True)
                if node.status is NodeStatus.READY:
                    unreconciled.clear()
        except Misconfigured:
            raise
        except YardError as error:
            log.warning("could not compare containers with the store: %s", error)
        except Exception:
            log.exception("could not compare containers with the store")
        else:
            return node.status is NodeStatus.READY
        return False


class Watching:
    """Events say when to look, reconciliation looks at everything; neither alone is trusted."""

    def __init__(
        self,
        reconciler: EngineReconciler,
        ending: Ending,
        care: ContainerCare,
        output: ContainerOutput,
    ) -> None:
        self._engine = reconciler.engine
        self._reconciler = reconciler
        self._containers = reconciler.containers
        self._ending = ending
        self._care = care
        self._output = output
        self._node = reconciler.node
        self._since: datetime | None = None

    async def watch(self, missed: Callable[[], None]) -> None:
        """Follow the engine's events for ever; after a cut, resume where they stopped.

        `missed` is told of each cut: an engine that was restarted replays nothing.
        """
        now = asyncio.get_running_loop().time
        pause_s = RECONNECT_S
        while True:
            began = now()
            try:
                await self._follow()
            except* YardError as cut:
                log.warning("the engine's events were cut, reconnecting: %s", cut.exceptions[0])
                missed()
            # An engine that is away is asked less and less often; reconciliation notices it first.
            stood = now() - began > LONGEST_RECONNECT_S
            pause_s = RECONNECT_S if stood else min(2 * pause_s, LONGEST_RECONNECT_S)
            await asyncio.sleep(pause_s)

    async def look(self, uuid: str) -> None:
        """Refresh one container. What cannot be looked at now is left to reconciliation."""
        try:
            await self._care.refresh(uuid)
        except YardError as error:
            log.warning("could not look at container %s: %s", uuid, error)
        except Exception:
            # One container that nobody foresaw must not end the care for all others.
            log.exception("could not look at container %s", uuid)

    async def reconcile(self) -> None:
        """Compare every container of ours on the engine with the store, and repair both.

        The store decides what should be, the engine what is. Raises EngineUnavailable and
        StoreUnavailable; safe to repeat. One container that cannot be repaired is logged and tried
        again the next time.
        """
        seen = await self._engine.list(self._node.labels)
        for each in seen:
            self._output.found(each)
        uuids = {engine_plan.container_of(each.labels) for each in seen}
        here = await self._containers.on_this_node([uuid for uuid in uuids if uuid])
        records = {record.uuid: record for record in here}
        await concurrency.for_each(
            seen, lambda each: self._carefully(self._compare(each, records)), at_once=AT_ONCE
        )
        await concurrency.for_each(
            here, lambda record: self._carefully(self._repair(record)), at_once=AT_ONCE
        )
        self._reconciler.has_compared = True

    async def _follow(self) -> None:
        events = self._engine.events(since=self._since, labels=self._node.labels)
        async with asyncio.TaskGroup() as group, aclosing(events):
            async for event in events:
                self._since = event.time
                uuid = engine_plan.container_of(event.labels)
                if uuid and event.action == "start":
                    self._output.attend(event.id, uuid)
                if uuid and event.action.split(":")[0] in NOTABLE:
                    group.create_task(self.look(uuid))

    async def _carefully(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except (EngineUnavailable, StoreUnavailable):
            raise
        except YardError as error:
            log.warning("a container could not be repaired: %s", error)
        except Exception:
            log.exception("a container could not be repaired")

    async def _repair(self, record: Container) -> None:
        if record.status in observation.OVER and record.desired is not Desired.DELETED:
            return
        # Whoever is at it reconciles it; a pull would hold us up for as long as it takes.
        if not self._reconciler.is_busy(record.uuid):
            await self._care.repair(record.uuid)

    async def _compare(self, seen: EngineContainer, records: dict[str, Container]) -> None:
        uuid = engine_plan.container_of(seen.labels)
        record = records.get(uuid or "")
        if record is None or engine_plan.fence_of(seen) < record.fence:
            await self._discard(seen, uuid or "")
        elif record.desired is Desired.DELETED or (
            seen.running and record.desired is Desired.STOPPED
        ):
            await self._ending.enforce(record.uuid)

    async def _discard(self, seen: EngineContainer, uuid: str) -> None:
        """A leftover: its record is gone, lives on another node, or was launched anew here."""
        try:
            current = await self._containers.load(uuid)
        except NotFound:
            current = None
        if current is not None and _belongs(seen, current, self._node.uuid):
            return  # placed here while we were looking
        log.info("removing leftover container %s", seen.name)
        await self._ending.discard(seen)


def _belongs(seen: EngineContainer, current: Container, node: str) -> bool:
    return (
        current.node == node
        and current.status is not Status.DELETED
        and engine_plan.fence_of(seen) >= current.fence
    )
