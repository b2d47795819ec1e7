"""The worker process: `python -m workers`."""

from __future__ import annotations

import sys
from datetime import timedelta
from functools import partial

from prometheus_client import CollectorRegistry

from pipeline.adapters.store import KINDS
from pipeline.core.lease_sweep import LeaseSweep
from pipeline.core.unclaimed import Unclaimed
from pipeline.services import Services, open_services
from pipeline.settings import Settings
from workers import alive, app, process
from workers.stages import STAGES
from workers.sweeps import Sweep

UNCLAIMED_S = 60
LEASES_S = 60
DELIVERIES_S = 60
PURGE_S = 60


async def serve(services: Services, registry: CollectorRegistry) -> None:
    """Work until SIGTERM or SIGINT. Streams, durables and indexes are made when absent."""
    await services.store.prepare()
    await services.bus.prepare()
    registers = [partial(stages.register, services=services) for stages in STAGES]
    drain_s = services.settings.drain_s
    handling = app.build(services.bus, registers, registry=registry, drain_s=drain_s)
    await app.run(handling, sweeps(services))


def sweeps(services: Services) -> list[Sweep]:
    """What no message asks for."""
    every_s = services.settings.sweep_interval_s
    unclaimed = Unclaimed(services.bus, services.clock, age_s=UNCLAIMED_S)
    age_s = services.settings.stuck_after_s
    leases = LeaseSweep(services.store, services.leases, age_s=age_s, clock=services.clock)
    return [
        Sweep("outbox", every_s, partial(send_leftovers, services)),
        Sweep("stuck", every_s, services.stuck.sweep),
        Sweep("trial runs", every_s, services.model.runs.sweep),
        Sweep("load tests", every_s, services.model.loads.sweep),
        Sweep("model starts", every_s, services.model.serves.sweep),
        Sweep("model endings", every_s, services.model.endings.sweep),
        Sweep("idle models", every_s, services.model.serves.sweep_idle),
        Sweep("delivery secrets", every_s, services.model.delivery_secrets.sweep),
        Sweep("lost nodes", every_s, services.nodes.sweep_lost),
        Sweep("deliveries", DELIVERIES_S, services.uploading.deliveries.sweep),
        Sweep("unclaimed", UNCLAIMED_S, unclaimed.sweep),
        Sweep("leases", LEASES_S, leases.sweep),
        Sweep("registries", every_s, services.directory.sweeps.sweep),
        Sweep("deleted registries", PURGE_S, services.directory.entries.purge),
        *alive.signs(services.settings.alive_file, services.bus, services.store),
    ]


async def send_leftovers(services: Services) -> None:
    """Publish what a crash, or a broker that was away, left in the records."""
    age = timedelta(seconds=services.settings.sweep_age_s)
    await services.outbox.sweep(KINDS, services.clock() - age)


async def work(settings: Settings, registry: CollectorRegistry) -> None:
    """Raises Misconfigured, BusUnavailable and StoreUnavailable when it cannot begin."""
    async with open_services(settings, name="worker") as services:
        await serve(services, registry)


def main() -> int:
    return process.run(work)


if __name__ == "__main__":
    sys.exit(main())
