"""What somebody does to containers behind our back is noticed; what is not ours is not touched."""

from __future__ import annotations

import asyncio

from pipeline.adapters.engine.docker import DockerEngine
from pipeline.containers import engine_plan
from pipeline.ports import LaunchPlan
from tests.chaos.conftest import Yard


async def test_a_container_removed_by_hand_is_noticed(yard: Yard, served: str) -> None:
    container = await yard.system.run(yard.api, served)
    assert container["status"] == "RUNNING"
    async with DockerEngine.open(yard.system.docker_host) as engine:
        await engine.remove(engine_plan.name_of(container["uuid"], container["node"]))
    found = await yard.system.until(
        yard.api, f"/containers/{container['uuid']}", lambda c: c["status"] == "FAILED", 5
    )
    assert "removed" in found["reason"]


async def test_a_container_killed_by_hand_is_started_again(yard: Yard, served: str) -> None:
    container = await yard.system.run(yard.api, served, restart="always")
    async with DockerEngine.open(yard.system.docker_host) as engine:
        await engine.stop(engine_plan.name_of(container["uuid"], container["node"]), grace_s=1)
    again = await yard.system.until(
        yard.api,
        f"/containers/{container['uuid']}",
        lambda c: c["status"] == "RUNNING" and c["restarts"] == 1,
        15,
    )
    assert again["ports"] == container["ports"]


async def test_an_unhealthy_container_is_restarted(yard: Yard, checked: str) -> None:
    container = await yard.system.run(yard.api, checked)
    (seen,) = await yard.system.engine_containers(container["uuid"])
    command = ["docker", "-H", yard.system.docker_host, "exec", seen.id, "rm", "/healthy"]
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0
    path = f"/containers/{container['uuid']}"
    await yard.system.until(yard.api, path, lambda c: c["status"] == "UNHEALTHY", 20)
    await yard.system.until(yard.api, path, lambda c: c["restarts"] >= 1, 20)


async def test_a_foreign_container_of_the_same_name_is_never_touched(
    yard: Yard, served: str
) -> None:
    """It takes the name while the one that had it is stopped."""
    container = await yard.system.run(yard.api, served)
    path = f"/containers/{container['uuid']}"
    await yard.system.call(yard.api, "POST", f"{path}/stop", params={"wait": 20})
    name = engine_plan.name_of(container["uuid"], container["node"])
    async with DockerEngine.open(yard.system.docker_host) as engine:
        for ours in await yard.system.engine_containers(container["uuid"]):
            await engine.remove(ours.id)
        foreign = await engine.create(LaunchPlan(name=name, image=container["pull"]))
        try:
            await yard.system.call(yard.api, "POST", f"{path}/start")
            found = await yard.system.until(yard.api, path, lambda c: c["status"] == "FAILED", 20)
            assert "somebody else" in found["reason"]
            await yard.system.call(yard.api, "DELETE", path, params={"wait": 10})
            still = await engine.inspect(name)
            assert still is not None
            assert still.id == foreign
            assert still.state == "created"
        finally:
            await engine.remove(foreign)


async def test_a_stop_that_was_asked_for_is_not_undone(yard: Yard, served: str) -> None:
    container = await yard.system.run(yard.api, served, restart="always")
    path = f"/containers/{container['uuid']}"
    await yard.system.call(yard.api, "POST", f"{path}/stop")
    await yard.system.until(yard.api, path, lambda c: c["status"] == "STOPPED")
    await yard.agent.kill()
    await yard.agent.start()
    await yard.system.nodes(yard.api)
    stopped = await yard.system.get(yard.api, path)
    assert stopped["status"] == "STOPPED"
    assert not any(c.running for c in await yard.system.engine_containers(container["uuid"]))
