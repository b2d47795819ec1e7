"""The process beside one Docker Engine: `python -m workers.agent`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline import concurrency, topology
from pipeline.adapters.bus.client import Bus
from pipeline.agent.sampling import Sampling
from pipeline.agent.service import Agent
from pipeline.bootstrap.agent import open_agent
from pipeline.settings import Settings
from workers import app, process
from workers.stages import orders

LABELS: Final = ("org", "container", "name")
FIGURES: Final[Mapping[str, str]] = {
    "cpus": "CPUs that it kept busy since the look before.",
    "memory_bytes": "Without files that are merely cached.",
    "memory_limit_bytes": "Its own, or what the machine has.",
    "network_received_bytes": "Since it started.",
    "network_sent_bytes": "Since it started.",
    "gpu_percent": "Time in which its GPUs were busy, on average.",
    "gpu_memory_percent": "Memory of its GPUs in use, on average.",
}


class ContainerFigures(Collector):
    """What each container of the node used at the last look: gauges, by container."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling

    def collect(self) -> Iterator[Metric]:
        latest = self._sampling.latest
        for figure, meaning in FIGURES.items():
            gauge = GaugeMetricFamily(f"modelyard_container_{figure}", meaning, labels=LABELS)
            for container, used in latest:
                if figure in used:
                    gauge.add_metric([container.org, container.uuid, container.name], used[figure])
            yield gauge


async def serve(agent: Agent, bus: Bus, *, registry: CollectorRegistry, drain_s: float) -> None:
    """Look after the node until SIGTERM or SIGINT. Raises what ends its own work early."""
    await bus.prepare(stages=(topology.node_stage(agent.uuid),))
    handling = app.build(
        bus, [partial(orders.register, agent=agent)], registry=registry, drain_s=drain_s
    )
    async with _services(agent, bus), asyncio.TaskGroup() as group:
        looking_after = group.create_task(agent.run(), name="agent")
        await app.run(handling)
        await concurrency.cancel_and_wait(looking_after)


@asynccontextmanager
async def _services(agent: Agent, bus: Bus) -> AsyncIterator[None]:
    """What others may ask of the agent while it runs."""
    async with AsyncExitStack() as stack:
        for name, answer in agent.services.items():
            subject = topology.agent_service(agent.uuid, name)
            await stack.enter_async_context(bus.serve_stream(subject, answer))
        yield


async def work(settings: Settings, registry: CollectorRegistry) -> None:
    """Raises Misconfigured, BusUnavailable and StoreUnavailable when it cannot begin."""
    async with open_agent(settings) as (agent, bus):
        await agent.registration.require_own()
        registry.register(ContainerFigures(agent.sampling))
        await serve(agent, bus, registry=registry, drain_s=settings.drain_s)


if __name__ == "__main__":
    sys.exit(process.run(work, service="agent"))
