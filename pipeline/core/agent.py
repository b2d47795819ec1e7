"""The agent beside one engine: its parts, and what they do over time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.core import logs, records
from pipeline.core.launches import Launches
from pipeline.core.leases import Leases
from pipeline.core.node_records import NodeRecords
from pipeline.core.probes import Ask, Probes
from pipeline.core.pulling import Pulling
from pipeline.core.registration import Registration
from pipeline.core.restarts import Restarts
from pipeline.core.watching import Watching
from pipeline.errors import YardError
from pipeline.ports import Engine, GpuInventory
from pipeline.rules.launching import Site
from pipeline.settings import Settings
from schemas.states import NodeStatus

if TYPE_CHECKING:
    from pipeline.adapters.bus import Bus
    from pipeline.adapters.store import Store
    from pipeline.core.outbox import Outbox
    from pipeline.core.secrets import Secrets

log = logging.getLogger(__name__)

RETRY_S = 1


@dataclass(frozen=True, slots=True)
class Agent:
    """`launches` carries out orders; `run` does everything that nobody has to order."""

    settings: Settings
    uuid: str
    name: str
    bus: Bus
    engine: Engine
    launches: Launches
    watching: Watching
    restarts: Restarts
    probes: Probes
    registration: Registration

    @classmethod
    def build(
        cls,
        settings: Settings,
        store: Store,
        bus: Bus,
        outbox: Outbox,
        engine: Engine,
        gpus: GpuInventory,
        secrets: Secrets,
        ask: Ask,
        *,
        name: str,
        uuid: str,
        clock: records.Clock,
    ) -> Agent:
        """Join the parts; contacts nobody. Raises Misconfigured for labels that are not pairs."""
        site = Site(settings.installation, uuid)
        mine = NodeRecords(store, outbox, Leases(store), node=uuid, clock=clock)
        pulling = Pulling(engine, store, secrets, mine, stall_s=settings.pull_stall_s)
        launches = Launches(engine, mine, pulling, site=site, settings=settings)
        restarts = Restarts(launches.restart, retry_s=settings.restart_backoff_s, clock=clock)
        probes = Probes(launches, restarts, ask)
        registration = Registration(
            store, outbox, engine, gpus, settings, uuid=uuid, name=name, clock=clock
        )
        watching = Watching(engine, launches, mine, (restarts.follow, probes.follow), site=site)
        return cls(
            settings, uuid, name, bus, engine, launches, watching, restarts, probes, registration
        )

    async def run(self) -> None:
        """Heartbeat, watch and reconcile until cancelled."""
        doubt = asyncio.Event()
        doubt.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat(doubt))
            group.create_task(self._reconcile(doubt))
            group.create_task(self.watching.watch())

    def logs(self, payload: bytes) -> AsyncIterator[bytes]:
        """Answers to one `pipeline.core.logs.LogRequest`."""
        return logs.serve(self.engine, self.uuid, payload)

    async def close(self) -> None:
        await self.probes.close()
        await self.restarts.close()

    async def _beat(self, doubt: asyncio.Event) -> None:
        """Until the containers are compared, and whenever the node was not READY, doubt stays."""
        while True:
            try:
                node = await self.registration.beat(reconciled=not doubt.is_set())
            except YardError as error:
                log.warning("heartbeat not recorded: %s", error)
            else:
                if node.status is not NodeStatus.READY:
                    doubt.set()
            await asyncio.sleep(self.settings.heartbeat_interval_s)

    async def _reconcile(self, doubt: asyncio.Event) -> None:
        while True:
            try:
                async with asyncio.timeout(self.settings.reconcile_interval_s):
                    await doubt.wait()
            except TimeoutError:
                log.debug("no reason to doubt; comparing anyway")
            try:
                await self.watching.reconcile()
                node = await self.registration.beat(reconciled=True)
            except YardError as error:
                log.warning("could not compare containers with the store: %s", error)
                await asyncio.sleep(RETRY_S)
                continue
            if node.status is NodeStatus.READY:
                doubt.clear()
            else:
                await asyncio.sleep(RETRY_S)
