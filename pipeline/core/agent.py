"""The agent beside one engine: its parts, and what they do over time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline import tasks
from pipeline.core import logs, records
from pipeline.core.container_files import FileService
from pipeline.core.counterparts import Counterparts
from pipeline.core.devices import Devices
from pipeline.core.endings import Endings
from pipeline.core.launches import Launches
from pipeline.core.leases import Leases
from pipeline.core.node_records import NodeRecords
from pipeline.core.probes import Ask, Probes
from pipeline.core.pulling import Pulling
from pipeline.core.registration import Registration
from pipeline.core.restarts import Restarts
from pipeline.core.upkeep import Upkeep
from pipeline.core.watching import Watching
from pipeline.errors import Misconfigured, YardError
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
    """`launches` and `endings` carry out orders; `run` does everything that nobody has to order."""

    settings: Settings
    uuid: str
    name: str
    bus: Bus
    engine: Engine
    launches: Launches
    endings: Endings
    watching: Watching
    restarts: Restarts
    probes: Probes
    registration: Registration
    files: FileService

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
        devices = Devices(gpus)
        registration = Registration(
            store, outbox, engine, devices, settings, uuid=uuid, name=name, clock=clock
        )
        mine = NodeRecords(store, outbox, Leases(store), node=uuid, clock=clock)
        site = Site(settings.installation, uuid)
        counterparts = Counterparts(engine, mine, site=site, settings=settings)
        pulled = registration.images_changed
        stall_s = settings.pull_stall_s
        pulling = Pulling(engine, store, secrets, mine, stall_s=stall_s, pulled=pulled)
        endings = Endings(counterparts, pulling)
        upkeep = Upkeep(counterparts, devices)
        restarts, probes = _following(mine, upkeep, ask, settings)
        return cls(
            settings=settings,
            uuid=uuid,
            name=name,
            bus=bus,
            engine=engine,
            launches=Launches(counterparts, pulling, devices, settings=settings),
            endings=endings,
            watching=Watching(engine, counterparts, endings, upkeep),
            restarts=restarts,
            probes=probes,
            registration=registration,
            files=FileService(engine, store, site),
        )

    async def run(self) -> None:
        """Heartbeat, watch and reconcile until cancelled.

        Raises Misconfigured when another machine is this node.
        """
        doubt = asyncio.Event()
        doubt.set()
        await tasks.together(self._beat(doubt), self._reconcile(doubt), self.watching.watch())

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
            except Misconfigured:
                raise
            except YardError as error:
                log.warning("heartbeat not recorded: %s", error)
            except Exception:
                log.exception("heartbeat not recorded")
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
            if await self._compared():
                doubt.clear()
            else:
                await asyncio.sleep(RETRY_S)

    async def _compared(self) -> bool:
        """True when everything is understood and the node is READY."""
        try:
            await self.registration.require_own()
            await self.watching.reconcile()
            self.registration.images_changed()
            node = await self.registration.beat(reconciled=True)
        except Misconfigured:
            raise
        except YardError as error:
            log.warning("could not compare containers with the store: %s", error)
        except Exception:
            log.exception("could not compare containers with the store")
        else:
            return node.status is NodeStatus.READY
        return False


def _following(
    mine: NodeRecords, upkeep: Upkeep, ask: Ask, settings: Settings
) -> tuple[Restarts, Probes]:
    retry_s = settings.restart_backoff_s
    restarts = Restarts(upkeep.restart, node=mine.node, retry_s=retry_s, clock=mine.clock)
    probes = Probes(upkeep, ask, node=mine.node)
    mine.followers += [restarts.follow, probes.follow]
    return restarts, probes
