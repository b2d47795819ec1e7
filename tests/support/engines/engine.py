"""What tests want from a real engine: waiting for a state, an output, an event."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import datetime

from pipeline.adapters.engine.docker import DockerEngine
from pipeline.ports import EngineContainer, EngineEvent
from tests.support.processes import any_free

IMAGE, HEALTHY_IMAGE = "engine-test:1", "engine-test:healthy"
"""The plain HTTP server, and the same with a HEALTHCHECK (`tests.support.archives.images`)."""

Launch = Callable[..., Awaitable[str]]
"""Takes the members of a LaunchPlan; returns the id."""


async def inspect_until(
    engine: DockerEngine, id: str, true: Callable[[EngineContainer], bool]
) -> EngineContainer:
    async with asyncio.timeout(60):
        while True:
            found = await engine.inspect(id)
            if found is not None and true(found):
                return found
            await asyncio.sleep(0.05)


async def output_of(engine: DockerEngine, id: str) -> str:
    lines = engine.logs(id, tail=None, since=None, follow=True)
    return "".join([line.text async for line in lines])


async def events_until(
    engine: DockerEngine, run: str, since: datetime, last: Callable[[EngineEvent], bool]
) -> list[EngineEvent]:
    seen: list[EngineEvent] = []
    async with (
        asyncio.timeout(60),
        aclosing(engine.events(since=since, labels={"test.run": run})) as events,
    ):
        async for event in events:
            seen.append(event)
            if last(event):
                break
    return seen


def free_port() -> int:
    return any_free(random.Random())
