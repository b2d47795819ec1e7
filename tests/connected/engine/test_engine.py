"""Containers on a real engine: their life, and what an engine refuses."""

from __future__ import annotations

import asyncio
import time

import docker
import httpx
import pytest

from pipeline.adapters.engine.docker import DockerEngine
from pipeline.errors import (
    AlreadyExists,
    ContainerMissing,
    CreateFailed,
    ForeignContainer,
    ImageMissing,
    PortTaken,
    StartFailed,
)
from schemas.container import PortBinding
from tests.support.archives.images import PORT
from tests.support.engines.engine import Launch, free_port
from tests.support.waiting import eventually

MIB = 1 << 20


async def test_the_engine_says_what_it_is(engine: DockerEngine) -> None:
    await engine.ping()
    info = await engine.info()
    assert info.platform.os == "linux"
    assert info.cpus > 0
    assert info.memory_bytes > 100 * MIB
    assert tuple(map(int, info.api_version.split("."))) >= (1, 41)


async def test_what_a_running_container_uses_is_told_and_of_others_nothing(
    engine: DockerEngine, make: Launch
) -> None:
    id = await make(name="t-use", command=["sh", "-c", "while :; do :; done"])
    assert await engine.use(id) is None, "it does not run yet"
    await engine.start(id)
    first = await engine.use("t-use")
    assert first is not None
    assert 0 < first.memory_bytes < first.memory_limit_bytes
    assert first.cpus > 0

    async def has_worked() -> bool:
        then = await engine.use(id)
        assert then is not None
        return then.cpu_ns > first.cpu_ns and then.at_ns > first.at_ns

    await eventually(has_worked)
    await engine.stop(id, grace_s=0)
    assert await engine.use(id) is None
    await engine.remove(id)
    assert await engine.use(id) is None


async def test_a_container_lives_and_every_step_can_be_repeated(
    engine: DockerEngine, make: Launch
) -> None:
    port = PortBinding(internal=PORT, host=free_port(), address="127.0.0.1")
    id = await make(name="t-life", labels={"a": "b=c"}, env={"GREETING": "hi there"}, ports=[port])
    created = await engine.inspect("t-life")
    assert created is not None
    assert (created.id, created.state, created.ports) == (id, "created", (port,))
    assert created.started_at is None

    for _ in range(2):
        await engine.start(id)
    running = await engine.inspect(id)
    assert running is not None
    assert (running.state, running.exit_code, running.ports) == ("running", None, (port,))
    assert running.labels["a"] == "b=c"
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port.host}", timeout=30) as http:
        assert (await http.get("/")).text == "ok\n"
        assert "GREETING=hi there" in (await http.get("/cgi-bin/env")).text

    for _ in range(2):
        await engine.stop(id, grace_s=10)
    stopped = await engine.inspect(id)
    assert stopped is not None
    assert (stopped.state, stopped.exit_code, stopped.running) == ("exited", 0, False)
    assert stopped.finished_at is not None

    for _ in range(2):
        await engine.remove(id)
    assert await engine.inspect(id) is None
    await engine.stop(id, grace_s=1)
    with pytest.raises(ContainerMissing):
        await engine.start(id)


async def test_a_running_container_is_removed_at_once(
    engine: DockerEngine, started: Launch
) -> None:
    id = await started()
    await engine.remove(id)
    assert await engine.inspect(id) is None


async def test_a_container_that_ignores_the_signal_is_killed_after_its_grace(
    engine: DockerEngine, started: Launch
) -> None:
    id = await started(command=("sh", "-c", "trap '' TERM; sleep 60"))
    began = time.monotonic()
    await engine.stop(id, grace_s=1)
    assert 0.9 < time.monotonic() - began < 8
    found = await engine.inspect(id)
    assert found is not None
    assert found.exit_code == 137


async def test_containers_are_found_by_all_their_labels(
    engine: DockerEngine, make: Launch, run: str
) -> None:
    ids = {await make(labels={"kind": kind}) for kind in "ab"}
    only = await make(labels={"kind": "c"})
    assert {one.id for one in await engine.list({"test.run": run})} == ids | {only}
    assert [one.id for one in await engine.list({"test.run": run, "kind": "c"})] == [only]
    assert await engine.list({"test.run": run, "kind": "d"}) == []


async def test_a_name_held_by_a_stranger_is_left_alone(engine: DockerEngine, make: Launch) -> None:
    holder = await make(name="t-foreign")
    for label in ({}, {"modelyard.container": "1"}):
        with pytest.raises(ForeignContainer) as caught:
            await make(name="t-foreign", labels=label)
        assert caught.value.facts["id"] == holder
    found = await engine.inspect("t-foreign")
    assert found is not None
    assert (found.id, found.state) == (holder, "created")


async def test_our_own_container_is_offered_for_adoption(
    engine: DockerEngine, make: Launch
) -> None:
    labels = {"modelyard.container": "1", "modelyard.fence": "4"}
    holder = await make(name="t-own", labels=labels)
    with pytest.raises(AlreadyExists) as caught:
        await make(name="t-own", labels=labels | {"modelyard.fence": "5"})
    facts = caught.value.facts
    assert (facts["id"], facts["state"]) == (holder, "created")
    assert facts["labels"]["modelyard.fence"] == "4"
    with pytest.raises(ForeignContainer):
        await make(name="t-own", labels={"modelyard.container": "2"})


async def test_of_many_who_create_the_same_name_one_wins(
    engine: DockerEngine, make: Launch
) -> None:
    labels = {"modelyard.container": "1"}
    creations = (make(name="t-race", labels=labels) for _ in range(8))
    outcomes = await asyncio.gather(*creations, return_exceptions=True)
    ids = [one for one in outcomes if isinstance(one, str)]
    assert len(ids) == 1
    assert [one.facts["id"] for one in outcomes if isinstance(one, AlreadyExists)] == ids * 7


async def test_a_port_in_use_is_told(started: Launch) -> None:
    port = PortBinding(internal=PORT, host=free_port(), address="127.0.0.1")
    await started(ports=[port])
    with pytest.raises(PortTaken, match=str(port.host)):
        await started(ports=[port])


async def test_a_port_that_something_else_holds_is_told(started: Launch) -> None:
    async with await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0) as server:
        number = server.sockets[0].getsockname()[1]
        with pytest.raises(PortTaken):
            await started(ports=[PortBinding(internal=PORT, host=number, address="127.0.0.1")])


async def test_a_port_may_be_left_to_the_engine(engine: DockerEngine, started: Launch) -> None:
    id = await started(ports=[PortBinding(internal=PORT, host=0, address="127.0.0.1")])
    found = await engine.inspect(id)
    assert found is not None
    assert found.ports[0].host > 0


async def test_an_image_that_is_not_there_is_told(make: Launch) -> None:
    with pytest.raises(ImageMissing):
        await make(image="engine-test:none")


async def test_a_plan_that_makes_no_sense_is_told(make: Launch) -> None:
    with pytest.raises(CreateFailed, match="memory"):
        await make(memory_bytes=1)


async def test_a_command_that_does_not_exist_is_told(started: Launch) -> None:
    with pytest.raises(StartFailed, match="no-such-command"):
        await started(command=("no-such-command",))


async def test_gpus_are_asked_for_by_their_ids(
    engine: DockerEngine, make: Launch, images_host: str
) -> None:
    """No engine here has GPUs: it says so instead of starting without them."""
    id = await make(gpu_devices=("GPU-1", "GPU-2"))
    asked = await asyncio.to_thread(raw_inspect, images_host, id)
    assert [one["DeviceIDs"] for one in asked["HostConfig"]["DeviceRequests"]] == [
        ["GPU-1", "GPU-2"]
    ]
    with pytest.raises(StartFailed, match="gpu"):
        await engine.start(id)


def raw_inspect(images_host: str, id: str) -> dict[str, dict[str, list[dict[str, object]]]]:
    client = docker.APIClient(base_url=images_host, version="1.41")
    try:
        return client.inspect_container(id)  # type: ignore[no-any-return]
    finally:
        client.close()
