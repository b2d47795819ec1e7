"""How containers end on a real engine, and what it tells about it."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from pipeline.adapters.engine.docker import DockerEngine
from pipeline.containers import observation
from pipeline.errors import EngineError, ForeignContainer
from pipeline.ports import EngineEvent, LaunchOptions, Mount
from schemas.container import PortBinding
from tests.support.archives import images
from tests.support.archives.images import PORT
from tests.support.engines.engine import (
    HEALTHY_IMAGE,
    Launch,
    events_until,
    free_port,
    inspect_until,
    output_of,
)

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
    # Its first process lives on: of a container that ends with what was killed the engine may
    # hear the end first, or of nothing else.
    command = f"{shlex.join(images.eats_memory(64 * MIB))}; exec tail -f /dev/null"
    id = await started(memory_bytes=16 * MIB, command=("sh", "-c", command))
    await events_until(engine, run, since, lambda one: one.action == "oom")
    await engine.stop(id, grace_s=0)
    found = await inspect_until(engine, id, lambda one: not one.running)
    assert (found.exit_code, found.oom_killed) == (137, True)


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
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port.host}", timeout=30) as http:
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
    async with asyncio.timeout(30):
        with pytest.raises(asyncio.CancelledError):
            await reader


@pytest.mark.parametrize("is_stopped", [True, False])
async def test_an_engine_recalls_an_end_and_whether_it_signalled_it(
    engine: DockerEngine, started: Launch, is_stopped: bool
) -> None:
    program = "trap 'exit 0' TERM; sleep 60 & wait" if is_stopped else "exit 0"
    id = await started(command=("sh", "-c", program))
    if is_stopped:
        await engine.stop(id, grace_s=5)
    found = await inspect_until(engine, id, lambda one: not one.running)
    assert found.started_at is not None
    told = await engine.recall(id, since=found.started_at)
    assert [event.action for event in told] == (["kill", "die"] if is_stopped else ["die"])
    assert observation.ended_by_itself(told, within_s=10) is not is_stopped
    assert not await engine.recall("0" * 64, since=found.started_at)


SET_UP = (
    "id -u; pwd; ulimit -n; df -k /dev/shm | tail -1 | awk '{print $2}';"
    "df -k /work | tail -1 | awk '{print $2}'; grep -c db.local /etc/hosts; touch /x || echo ro"
)


async def test_a_container_is_set_up_as_its_owner_chose(
    engine: DockerEngine, started: Launch
) -> None:
    options = LaunchOptions(
        entrypoint=("sh", "-c", SET_UP),
        working_dir="/work",
        user="1000:1000",
        shm_bytes=256 * MIB,
        ulimits={"nofile": (512, 1024)},
        tmpfs={"/work": 2 * MIB},
        read_only=True,
        extra_hosts={"db.local": "10.0.0.1"},
        stop_grace_s=3,
    )
    id = await started(options=options)
    said = [line for line in (await output_of(engine, id)).splitlines() if "touch" not in line]
    assert said == ["1000", "/work", "512", str(256 * 1024), "2048", "1", "ro"]
    found = await engine.inspect(id)
    assert found is not None
    assert found.stop_grace_s == 3


async def test_a_container_joins_the_memory_of_another_that_shares_it(
    engine: DockerEngine, started: Launch
) -> None:
    share = ("sh", "-c", "echo hello > /dev/shm/word; sleep 60")
    donor = await started(options=LaunchOptions(entrypoint=share, ipc="shareable"))
    wait = ("sh", "-c", "for n in $(seq 50); do cat /dev/shm/word && break; sleep 0.1; done")
    joined = await started(options=LaunchOptions(entrypoint=wait, ipc=f"container:{donor}"))
    assert "hello" in await output_of(engine, joined)


async def test_a_volume_outlives_its_container_and_ends_when_none_has_it(
    engine: DockerEngine, started: Launch, run: str
) -> None:
    volume = f"t-{run}"
    writes = LaunchOptions(entrypoint=("sh", "-c", "echo kept > /data/word"))
    reads = LaunchOptions(entrypoint=("sh", "-c", "cat /data/word; touch /data/x || echo ro"))
    try:
        for _ in range(2):
            await engine.create_volume(volume, {"test.run": run})
        first = await started(options=writes, mounts=[Mount(volume, "/data")])
        await inspect_until(engine, first, lambda one: not one.running)
        with pytest.raises(EngineError, match="in use"):
            await engine.remove_volume(volume)
        await engine.remove(first)
        second = await started(options=reads, mounts=[Mount(volume, "/data", read_only=True)])
        assert {"kept", "ro"} <= set((await output_of(engine, second)).splitlines())
        await engine.remove(second)
        with pytest.raises(ForeignContainer):
            await engine.create_volume(volume, {"test.run": "another"})
    finally:
        for _ in range(2):
            await engine.remove_volume(volume)


async def test_a_file_of_the_machine_can_be_read_and_not_written(
    engine: DockerEngine, started: Launch, tmp_path: Path
) -> None:
    file = tmp_path / "weights"
    file.write_text("kept")
    path = "/modelyard/assets/key/weights"
    script = f"cat {path}; echo; touch {path} || echo ro"
    options = LaunchOptions(entrypoint=("sh", "-c", script), read_only=True)
    mount = Mount(str(file), path, read_only=True, is_file=True)
    id = await started(options=options, mounts=[mount])
    said = (await output_of(engine, id)).splitlines()
    assert {"kept", "ro"} <= set(said)
    assert file.read_text() == "kept"
