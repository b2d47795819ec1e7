"""The worker process: `python -m workers`."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial

from prometheus_client import CollectorRegistry

from pipeline.adapters.store import KINDS
from pipeline.services import Services, open_services
from pipeline.settings import Settings
from pipeline.telemetry import configure_logging
from workers import app, containers, images
from workers.sweeps import Sweep

DRAIN_S = 20


async def serve(services: Services) -> None:
    """Work until SIGTERM or SIGINT. Streams, durables and indexes are made when absent."""
    await services.store.prepare()
    await services.bus.prepare()
    registers = [partial(stages.register, services=services) for stages in (images, containers)]
    handling = app.build(services.bus, registers, registry=CollectorRegistry(), drain_s=DRAIN_S)
    await app.run(handling, sweeps(services))


def sweeps(services: Services) -> list[Sweep]:
    """What no message asks for."""
    every_s = services.settings.sweep_interval_s
    return [
        Sweep("outbox", every_s, partial(send_leftovers, services)),
        Sweep("stuck", every_s, services.stuck.sweep),
        Sweep("lost nodes", every_s, services.nodes.sweep_lost),
    ]


async def send_leftovers(services: Services) -> None:
    """Publish what a crash, or a broker that was away, left in the records."""
    age = timedelta(seconds=services.settings.sweep_age_s)
    await services.outbox.sweep(KINDS, services.clock() - age)


async def work(settings: Settings) -> None:
    """Raises Misconfigured, BusUnavailable and StoreUnavailable when it cannot begin."""
    configure_logging(settings.log_level)
    async with open_services(settings, name="worker") as services:
        await serve(services)


def main() -> None:
    asyncio.run(work(Settings()))


if __name__ == "__main__":
    main()
