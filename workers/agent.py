"""The process beside one Docker Engine: `python -m workers.agent`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from prometheus_client import CollectorRegistry

from pipeline import tasks
from pipeline.adapters.bus import Bus
from pipeline.core import container_files
from pipeline.core.agent import Agent
from pipeline.rules import topology
from pipeline.services_agent import open_agent
from pipeline.settings import Settings
from workers import app, orders, process


async def serve(agent: Agent, bus: Bus, *, registry: CollectorRegistry, drain_s: float) -> None:
    """Look after the node until SIGTERM or SIGINT. Raises what ends its own work early."""
    await bus.prepare(stages=(topology.node_stage(agent.uuid),))
    handling = app.build(
        bus,
        [partial(orders.register, agent=agent)],
        registry=registry,
        drain_s=drain_s,
    )
    async with _services(agent, bus), asyncio.TaskGroup() as group:
        looking_after = group.create_task(agent.run(), name="agent")
        await app.run(handling)
        await tasks.end(looking_after)


@asynccontextmanager
async def _services(agent: Agent, bus: Bus) -> AsyncIterator[None]:
    """What others may ask of the agent while it runs."""
    served = {
        "logs": agent.logs,
        container_files.PUT: agent.files.put_inputs,
        container_files.GET: agent.files.get_outputs,
    }
    async with AsyncExitStack() as stack:
        for name, handler in served.items():
            subject = topology.agent_service(agent.uuid, name)
            await stack.enter_async_context(bus.serve_stream(subject, handler))
        yield


async def work(settings: Settings, registry: CollectorRegistry) -> None:
    """Raises Misconfigured, BusUnavailable and StoreUnavailable when it cannot begin."""
    async with open_agent(settings) as agent:
        await agent.registration.require_own()
        await serve(agent, agent.bus, registry=registry, drain_s=settings.drain_s)


def main() -> int:
    return process.run(work)


if __name__ == "__main__":
    sys.exit(main())
