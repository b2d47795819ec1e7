"""How containers end on a real engine, and what it tells about it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import httpx
import pytest

from pipeline.adapters.engine import DockerEngine
from pipeline.ports import EngineEvent
from schemas.container import PortBinding
from tests.support import images
from tests.support.engine import (
    HEALTHY_IMAGE,
    Launch,
    events_until,
    free_port,
    inspect_until,
    output_of,
)
from tests.support.images import PORT

MIB = 1 << 20


LIMITS = (
    "cd /sys/fs/cgroup; "
    "cat memory.max cpu.max 2>/dev/null || "
    "cat memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us"
)


async def test_limits_are_those_of_the_kernel(engine: DockerEngine, started: Launch) -> None:
    id = await started(memory_bytes=64 * MIB, cpus=0.5, command=("sh", "-c", LIMITS))
    memory, quota, period = map(int, (await output_of(engine, id)).split())
    assert memory == 64 * MIB
    assert quota / period == 0.5


async def test_running_out_of_memory_is_told_from_an_ordinary_end(
    engine: DockerEngine, started: Launch, run: str
) -> None:
    since = datetime.now(UTC)
    id = await started(memory_bytes=16 * MIB, command=images.eats_memory(64 * MIB))
    found = await inspect_until(engine, id, lambda one: not one.running)
    assert found.exit_code == 137
    missing = {"oom", "die"}

    def are_both_told(event: EngineEvent) -> bool:
        missing.discard(event.action)
        return not missing

    # The engine hears of both from different sides. When it hears of the end first, as on a busy
    # machine, it never marks the container itself.
    events = await events_until(engine, run, since, are_both_told)
    told = [event.action for event in events]
    assert not missing, told
    assert found.oom_killed or told.index("die") < told.index("oom")


async def test_an_exit_code_is_kept(engine: DockerEngine, started: Launch, run: str) -> None:
    since = datetime.now(UTC)
    id = await started(command=images.exits(7))
    found = await inspect_until(engine, id, lambda one: not one.running)
    assert found.exit_code == 7
    events = await events_until(engine, run, since, lambda one: one.action == "die")
    assert (events[-1].exit_code, events[-1].id) == (7, id)


async def test_health_goes_both_ways(engine: DockerEngine, started: Launch, run: str) -> None:
    port = PortBinding(internal=PORT, host=free_port(), address="127.0.0.1")
    since = datetime.now(UTC)
    id = await started(image=HEALTHY_IMAGE, ports=[port])
    await inspect_until(engine, id, lambda one: one.health == "healthy")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port.host}") as http:
        await http.get("/cgi-bin/sick")
        await inspect_until(engine, id, lambda one: one.health == "unhealthy")
        await http.get("/cgi-bin/well")
    events = await events_until(engine, run, since, has_recovered())
    assert [one.health for one in events if one.health] == ["healthy", "unhealthy", "healthy"]
    assert not [one for one in events if one.action.startswith("exec")]


def has_recovered() -> Callable[[EngineEvent], bool]:
    seen: list[str | None] = []

    def recovered(event: EngineEvent) -> bool:
        seen.append(event.health)
        return "unhealthy" in seen and event.health == "healthy"

    return recovered


async def test_events_are_those_of_the_labels_and_nobody_else(
    engine: DockerEngine, make: Launch, run: str
) -> None:
    since = datetime.now(UTC)
    other = await make(labels={"test.run": "other"})
    id = await make(name="t-events")
    await engine.start(id)
    await engine.remove(id)
    await engine.remove(other)
    events = await events_until(engine, run, since, lambda one: one.action == "destroy")
    assert [one.action for one in events] == ["create", "start", "kill", "die", "destroy"]
    assert {(one.id, one.name) for one in events} == {(id, "t-events")}
    assert [one.time_ns for one in events] == sorted(one.time_ns for one in events)
    assert events[0].labels["test.run"] == run


async def test_a_reader_of_events_goes_away_at_once(engine: DockerEngine) -> None:
    reader = asyncio.ensure_future(anext(engine.events(since=None, labels={"test.run": "none"})))
    await engine.ping()
    reader.cancel()
    async with asyncio.timeout(0.5):
        with pytest.raises(asyncio.CancelledError):
            await reader
