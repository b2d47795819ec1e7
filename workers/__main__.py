"""The worker process: `python -m workers`."""

from __future__ import annotations

import sys

from prometheus_client import CollectorRegistry

from pipeline.bootstrap.control_plane import open_services
from pipeline.settings import Settings
from workers import control_plane, process


async def work(settings: Settings, registry: CollectorRegistry) -> None:
    """Raises Misconfigured, BusUnavailable and StoreUnavailable when it cannot begin."""
    async with open_services(settings, name="worker") as services:
        await control_plane.serve(services, registry)


if __name__ == "__main__":
    sys.exit(process.run(work, service="worker"))
