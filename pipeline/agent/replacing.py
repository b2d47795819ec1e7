"""One container in place of another on this node: made beside it, started, and only then instead.

What both need (a host port, a GPU, a keep that is written) the old one gives up just before the new
one starts; any failure puts it back as it was. `orders.Launching` calls this inside the lock of the
new one; an exchange holds that of the old one, too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final

from pipeline.adapters.store.store import EVERY_ORG, Store
from pipeline.agent.container_care import Ask
from pipeline.agent.reconciler import EngineReconciler
from pipeline.agent.volumes import NodeVolumes
from pipeline.errors import NotFound, StartFailed, YardError
from pipeline.nodes.leases import Leases
from pipeline.ports import EngineContainer
from pipeline.records.kernel import Change
from pipeline.records.messages import event
from schemas.container import Container, Desired, PortSpec
from schemas.image import Image
from schemas.node import Lease
from schemas.states import ContainerStatus as Status

log = logging.getLogger(__name__)

LOOK_S: Final = 0.5
PATIENCE_MAX_S: Final = 240.0
"""What waits for the exchange gives up then, too."""


class Replacing:
    """Each step may be repeated: an exchange that was cut short is completed by the next one."""

    def __init__(
        self, reconciler: EngineReconciler, volumes: NodeVolumes, store: Store, ask: Ask
    ) -> None:
        self.reconciler = reconciler
        self.volumes = volumes
        self.store = store
        self.leases = Leases(store)
        self.ask = ask

    async def held_ports(self, container: Container) -> frozenset[tuple[int, str]]:
        """Host ports that it takes over, so that it is no matter that they are in use."""
        old = await self.predecessor(container)
        return frozenset() if old is None else _ports_of(old)

    async def predecessor(self, container: Container) -> Container | None:
        """The one that it replaces, unless that is gone or on another node by now."""
        if container.replaces is None:
            return None
        try:
            old = await self.reconciler.containers.load(container.replaces)
        except NotFound:
            return None
        is_here = old.node == container.node and old.status is not Status.DELETED
        return old if is_here else None

    @asynccontextmanager
    async def exchange(self, container: Container) -> AsyncIterator[Exchange]:
        """Whatever is raised within puts the old one back."""
        if container.replaces is None:
            yield Exchange(self, container, None, None)
            return
        async with self.reconciler.locked(container.replaces):
            old = await self.predecessor(container)
            seen = None if old is None else await self.reconciler.find(old)
            exchange = Exchange(self, container, old, seen)
            try:
                yield exchange
            except BaseException:
                await exchange.put_back()
                raise


class Exchange:
    """Of one container; there may be no old one."""

    def __init__(
        self,
        replacing: Replacing,
        container: Container,
        old: Container | None,
        seen: EngineContainer | None,
    ) -> None:
        self._replacing = replacing
        self._reconciler = replacing.reconciler
        self._container = container
        self._old = old
        self._seen = seen
        self._is_stopped = False

    async def clear_way(self) -> None:
        """Stop the old one if both cannot run at once. Idempotent."""
        old, seen = self._old, self._seen
        if old is None or seen is None or not seen.running or self._is_stopped:
            return
        if not in_each_others_way(self._container, old):
            return
        self._is_stopped = True
        await self._reconciler.stop(seen)

    async def put_back(self) -> None:
        """Nothing of the new one is left, and the old one runs if it ran."""
        if self._old is None or self._seen is None:
            return
        try:
            new = await self._reconciler.find(self._container)
            if new is not None:
                await self._reconciler.discard(new)
            for keep in self._old.spec.volumes:
                await self._replacing.volumes.give(self._old, keep.path)
            if self._is_stopped:
                await self._reconciler.engine.start(self._seen.id)
        except YardError as error:
            # Who looks after it finds that it was stopped from outside, and starts it again.
            log.warning("container %s is not put back yet: %s", self._old.uuid, error)

    async def complete(self, container: Container) -> Container:
        """Once the new one is well: the old one goes, and what it held and was called is its own.

        Raises StartFailed for one that does not become healthy.
        """
        if container.replaces is None or container.status is not Status.RUNNING:
            return container
        await self._until_healthy(container)
        if self._old is not None:
            if self._seen is not None:
                await self._reconciler.discard(self._seen)
            await self._replacing.leases.hand_over(
                container.node or "", self._old.uuid, await self._lease(container)
            )
            await self._reconciler.containers.amend(self._old, _replaced_by(container))
        await self._rename(container)
        return await self._reconciler.containers.amend(container, _in_its_place)

    async def _until_healthy(self, container: Container) -> None:
        now = asyncio.get_running_loop().time
        end = now() + _patience_s(container)
        while True:
            seen = await self._reconciler.find_current(container)
            if seen is None or not seen.running:
                code = "" if seen is None else f" with code {seen.exit_code}"
                raise StartFailed(f"It ended{code} before it took the place of the other one.")
            if not container.has_probe or await self._is_healthy(container, seen):
                return
            if seen.health == "unhealthy" or now() >= end:
                raise StartFailed("It did not become healthy: its health check fails.")
            await asyncio.sleep(LOOK_S)

    async def _is_healthy(self, container: Container, seen: EngineContainer) -> bool:
        check = container.spec.health
        if check is None:
            return seen.health in ("healthy", "none")
        port = next((each for each in container.ports if each.internal == check.port), None)
        if port is None:
            return False
        url = f"http://{port.address}:{port.host}{check.path}"
        try:
            return 200 <= await self._replacing.ask(url, check.timeout_s) < 400
        except YardError:
            return False

    async def _lease(self, container: Container) -> Lease:
        """All that it holds once the old one holds nothing."""
        image = await self._replacing.store.get(Image, container.image, org=EVERY_ORG)
        resources = container.spec.resources
        return Lease(
            container=container.uuid,
            fence=container.fence,
            gpus=container.gpus,
            memory_bytes=max(resources.memory_bytes, image.needs.memory_bytes),
            cpus=resources.cpus,
            host_ports=[f"{p.host}/{p.protocol}" for p in container.spec.ports if p.host],
            org=container.org,
        )

    async def _rename(self, container: Container) -> None:
        name = container.spec.engine_name
        seen = await self._reconciler.find_current(container)
        if name is not None and seen is not None and seen.name != name:
            await self._reconciler.engine.rename(seen.id, name)


def in_each_others_way(new: Container, old: Container) -> bool:
    """Both need one host port, one GPU, or one keep that either writes."""
    wanted = {(port.host, port.protocol) for port in new.spec.ports if port.host}
    theirs = {keep.path: keep for keep in old.spec.volumes if old.name == new.name}
    shared = [
        keep
        for keep in new.spec.volumes
        if keep.path in theirs and not (keep.read_only and theirs[keep.path].read_only)
    ]
    return bool(wanted & _ports_of(old) or set(new.gpus) & set(old.gpus) or shared)


def without_held(ports: list[PortSpec], held: frozenset[tuple[int, str]]) -> list[PortSpec]:
    return [port for port in ports if (port.host, port.protocol) not in held]


def _ports_of(container: Container) -> frozenset[tuple[int, str]]:
    return frozenset((port.host, port.protocol) for port in container.ports)


def _patience_s(container: Container) -> float:
    check = container.spec.health
    if check is None:
        return PATIENCE_MAX_S
    return min(PATIENCE_MAX_S, check.start_period_s + check.retries * check.interval_s)


def _replaced_by(new: Container) -> Any:
    def decide(old: Container, at: datetime) -> Change | None:
        if old.status is Status.DELETED:
            return None
        values = {"desired": Desired.DELETED.value, "restart_at": None, "queue_position": None}
        return Change(values, Status.DELETED, f"replaced by {new.uuid}", [event("deleted")])

    return decide


def _in_its_place(container: Container, at: datetime) -> Change | None:
    if container.replaces is None:
        return None
    told = event("replaced", predecessor=container.replaces)
    return Change({"replaces": None}, send=[told])
