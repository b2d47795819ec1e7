"""Two Docker Engines as two nodes: one is drained, one is lost; then store and broker are away."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from pipeline.adapters.engine.docker import DockerEngine
from pipeline.adapters.gateway.haproxy import Haproxy
from pipeline.containers import engine_plan
from pipeline.stack.pieces.app import AppPiece
from pipeline.stack.pieces.dockerd import DockerdPiece
from pipeline.stack.pieces.mongod import MongodPiece
from pipeline.stack.pieces.nats import NatsPiece
from tests.support.archives.image_delivery import push
from tests.support.archives.images import busybox_image
from tests.support.systems.deployed_yard import Load, Yard, reachable
from tests.support.systems.services import Services
from tests.support.systems.system import a_system
from tests.support.waiting import eventually

NAMES = ("node-a", "node-b")
GPUS = "2xH100-80GB"


@dataclass
class Node:
    engine: DockerdPiece
    agent: AppPiece

    async def replicas(self) -> list[str]:
        """Uuids of the containers that its engine runs."""
        async with DockerEngine.open(self.engine.host) as engine:
            found = await engine.list({})
        return [each.labels[engine_plan.CONTAINER] for each in found if each.running]


@dataclass
class Yards(Yard):
    nodes: dict[str, Node]
    mongod: MongodPiece
    nats: NatsPiece

    async def record(self, name: str) -> Any:
        return await self.system.get(self.api, f"/nodes/find?called={name}")

    async def on(self, deployment: Any) -> Counter[str]:
        """How many ready replicas are on which node."""
        replicas = await self.replicas(deployment)
        return Counter(each["node_name"] for each in replicas if each["healthy_since"])

    async def until_on(self, deployment: Any, counts: dict[str, int]) -> None:
        async def holds() -> bool:
            return await self.on(deployment) == counts

        await eventually(holds, timeout_s=40)


@pytest.fixture(scope="module")
async def yard(
    tmp_path_factory: pytest.TempPathFactory, services: Services, registry_host: str
) -> AsyncIterator[Yards]:
    mongod, nats = services.mongod(), services.nats()
    engines = [services.dockerd() for _ in NAMES]
    await asyncio.gather(*(each.start() for each in (mongod, nats, *engines)))
    push(busybox_image(), registry_host, "engines/serves", "1")
    where = {"NATS_URL": nats.url, "MONGO_URL": mongod.url, "REGISTRY": registry_host}
    where |= {"DOCKER_HOST": engines[0].host, "SIMULATED_GPUS": GPUS}
    async with a_system(tmp_path_factory.mktemp("engines"), random.Random(), **where) as system:
        haproxy = services.haproxy(system.settings["SIGNING_KEY"])
        await haproxy.start()
        system.settings["GATEWAY_URL"] = haproxy.url
        starts = (system.api(), system.gateway(haproxy), system.worker())
        api, follower, _ = await asyncio.gather(*starts)
        agents = [
            await system.agent(name, DOCKER_HOST=engine.host)
            for name, engine in zip(NAMES, engines, strict=True)
        ]
        await system.login(api)
        await system.nodes(api, len(NAMES))
        image = await system.image(api, f"{registry_host}/engines/serves:1")
        nodes = dict(zip(NAMES, map(Node, engines, agents), strict=True))
        gateway = (Haproxy(haproxy.run_folder), haproxy, follower, None)
        yield Yards(system, api, image["uuid"], *gateway, nodes, mongod, nats)
    await asyncio.gather(*(each.stop() for each in (haproxy, *engines, nats, mongod)))


async def test_small_ones_are_packed_drained_without_a_failed_call_and_placed_again(
    yard: Yards,
) -> None:
    """So that what needs a whole node finds one."""
    small = await yard.create("small", 2, gpus=1)
    (first,) = await yard.on(small)
    whole = await yard.create("whole", gpus=2)
    (second,) = await yard.on(whole)
    assert {first, second} == set(NAMES)
    assert (await yard.on(small))[first] == 2

    uuid = (await yard.record(first))["uuid"]
    await yard.system.call(yard.api, "POST", f"/nodes/{uuid}/drain")
    stuck = "2 replicas to move, 1 waits"
    await yard.system.until(
        yard.api, f"/nodes/{uuid}", lambda node: node["drain"]["said"].startswith(stuck)
    )
    await reachable(yard, small["endpoint"])
    async with Load(yard, small["endpoint"]) as load:
        await yard.done("POST", f"/{whole['uuid']}/stop")
        await yard.until_on(small, {second: 2})
        await yard.system.until(
            yard.api, f"/nodes/{uuid}", lambda node: node["drain"]["drained_at"] is not None
        )
        answered = load.answered
        await eventually(lambda: load.answered > answered)
    assert load.failed == []
    assert await yard.nodes[first].replicas() == []

    await yard.system.call(yard.api, "POST", f"/nodes/{uuid}/resume")
    await yard.done("POST", f"/{whole['uuid']}/start")
    assert await yard.on(whole) == {first: 1}
    for each in (small, whole):
        await yard.deleted(each)


async def test_replicas_of_a_lost_engine_appear_on_the_other_and_its_return_leaves_one_of_each(
    yard: Yards,
) -> None:
    made = await yard.create("lost", 2, gpus=1)
    (first,) = await yard.on(made)
    (second,) = set(NAMES) - {first}
    lost = yard.nodes[first]
    before = await yard.replicas(made)
    await reachable(yard, made["endpoint"])
    await asyncio.gather(lost.agent.kill(), lost.engine.kill())
    await yard.until_on(made, {second: 2})
    await reachable(yard, made["endpoint"])
    await lost.engine.start()
    await lost.agent.start()
    await yard.system.nodes(yard.api, len(NAMES))

    async def is_alone() -> bool:
        return await lost.replicas() == []

    await eventually(is_alone, timeout_s=20)
    there = await yard.replicas(made)
    assert len(there) == 2
    assert sorted(await yard.nodes[second].replicas()) == sorted(each["uuid"] for each in there)
    assert {each["uuid"] for each in there} == {each["uuid"] for each in before}
    held = {node["name"]: len(node["held"]) for node in await yard.system.nodes(yard.api, 2)}
    assert held == {first: 0, second: 2}
    await yard.deleted(made)


async def test_calls_go_on_while_store_and_broker_are_away(yard: Yards) -> None:
    made = await yard.create("going-on", 2)
    await reachable(yard, made["endpoint"])
    async with Load(yard, made["endpoint"]) as load:
        await asyncio.gather(yard.mongod.kill(), yard.nats.kill())
        answered = load.answered
        await eventually(lambda: load.answered > answered + 100)
        for path in ("/deployments/model-deployments/", "/models/client/model-repos/"):
            refused = await yard.system.http.get(f"http://127.0.0.1:{yard.api.port}{path}")
            assert (refused.status_code, set(refused.json())) == (503, {"detail"})
        await yard.mongod.start()
        await yard.nats.start()
        more = await yard.done("POST", f"/{made['uuid']}/scale", json={"replicas": 3})
    assert (more["status"], more["ready"], load.failed) == ("DEPLOYED", 3, [])
    await yard.deleted(made)
