"""A node falls silent: its containers run elsewhere, and what comes back does no harm."""

from __future__ import annotations

from tests.chaos.conftest import Yard
from tests.support.systems.system import System

GPUS = "2xH100-80GB"


async def test_containers_of_a_lost_node_are_replaced_and_its_return_leaves_one_of_each(
    system: System, served: str
) -> None:
    api, _ = await system.api(), await system.worker()
    await system.login(api)
    await system.image(api, served)
    first = await system.agent("node-a", SIMULATED_GPUS=GPUS)
    await system.nodes(api)
    container = await system.run(api, served, gpus=2)
    assert container["status"] == "RUNNING"
    await system.agent("node-b", SIMULATED_GPUS=GPUS)
    await first.kill()
    path = f"/containers/{container['uuid']}"
    moved = await system.until(
        api, path, lambda c: c["status"] == "RUNNING" and c["node"] != container["node"], 30
    )
    assert moved["fence"] > container["fence"]
    await first.start()
    await system.nodes(api, 2)
    (seen,) = await system.engine_containers(container["uuid"])
    assert seen.labels["modelyard.node"] == moved["node"]
    nodes = {n["uuid"]: n for n in (await system.get(api, "/nodes"))["items"]}
    assert len(nodes[moved["node"]]["held"]) == 2
    assert not nodes[container["node"]]["held"]


async def test_a_container_that_waits_for_its_node_is_taken_up_again(
    yard: Yard, served: str
) -> None:
    system, api = yard.system, yard.api
    container = await system.run(api, served, on_node_loss="wait")
    await yard.agent.kill()
    path = f"/containers/{container['uuid']}"
    await system.until(api, path, lambda c: c["status"] == "LOST", 20)
    await yard.agent.start()
    back = await system.until(api, path, lambda c: c["status"] == "RUNNING", 20)
    assert back["fence"] == container["fence"]
    assert back["engine_id"] == container["engine_id"]
