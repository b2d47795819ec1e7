"""kill -9 of our own processes at the worst moments: one effect, and every event still sent."""

from __future__ import annotations

import asyncio
from collections import Counter

from pipeline import topology
from pipeline.adapters.bus.client import Bus
from pipeline.stack.pieces.mongod import MongodPiece
from tests.chaos.conftest import Yard
from tests.support.events import stored_events
from tests.support.systems.system import System
from tests.support.waiting import eventually


async def kinds_of(nats_url: str, uuid: str) -> list[str]:
    """Kinds of the events that the stream keeps about a record, in order."""
    async with Bus.open(nats_url, name="reader") as bus:
        subjects = [stored.subject async for stored in stored_events(bus, None)]
    return [parsed.kind for parsed in map(topology.parse_event, subjects) if parsed.id == uuid]


async def test_an_api_killed_between_store_and_publish_loses_nothing(
    yard: Yard, served: str
) -> None:
    yard.nats.pause()
    try:
        asking = asyncio.create_task(
            yard.system.call(
                yard.api, "POST", "/containers", json={"image": served, "name": "orphan"}
            )
        )
        await eventually(lambda: stored(yard.system, "orphan"))
        await yard.api.kill()
        await asyncio.gather(asking, return_exceptions=True)
    finally:
        yard.nats.resume()
    await yard.api.start()
    page = await yard.system.until(
        yard.api,
        "/containers?name=orphan",
        lambda page: [c["status"] for c in page["items"]] == ["RUNNING"],
    )
    uuid = page["items"][0]["uuid"]
    assert len(await yard.system.engine_containers(uuid)) == 1
    kinds = Counter(await kinds_of(yard.nats.url, uuid))
    assert kinds["requested"] == kinds["placed"] == kinds["running"] == 1


async def stored(system: System, name: str) -> bool:
    from motor.motor_asyncio import AsyncIOMotorClient

    client: AsyncIOMotorClient[dict[str, object]] = AsyncIOMotorClient(system.settings["MONGO_URL"])
    try:
        found = await client[system.database]["containers"].find_one({"name": name})
        return found is not None
    finally:
        client.close()


async def test_a_worker_killed_at_any_time_places_once(yard: Yard, served: str) -> None:
    answers = [
        await yard.system.run(yard.api, served, wait=0, name=f"w{number}") for number in range(6)
    ]
    await yard.worker.kill()
    await yard.worker.start()
    for answer in answers:
        path = f"/containers/{answer['uuid']}"
        await yard.system.until(yard.api, path, lambda c: c["status"] == "RUNNING", 45)
        assert len(await yard.system.engine_containers(answer["uuid"])) == 1


async def test_an_agent_killed_between_the_engines_effect_and_its_record_adopts_the_container(
    own_mongod: MongodPiece, system: System, served: str
) -> None:
    # The node must not be given up for lost before its agent is back.
    system.settings |= {"MONGO_URL": own_mongod.url, "NODE_GRACE_S": "60"}
    api, _ = await system.api(), await system.worker()
    agent = await system.agent()
    await system.login(api)
    await system.image(api, served)
    container = await system.run(api, served, wait=0)
    await eventually(lambda: created(system, container["uuid"]), timeout_s=30)
    own_mongod.pause()
    try:
        await agent.kill()
    finally:
        own_mongod.resume()
    (before,) = await system.engine_containers(container["uuid"])
    await agent.start()
    await system.until(
        api, f"/containers/{container['uuid']}", lambda c: c["status"] == "RUNNING", 45
    )
    (after,) = await system.engine_containers(container["uuid"])
    assert after.id == before.id
    assert after.running


async def created(system: System, uuid: str) -> bool:
    return bool(await system.engine_containers(uuid))


async def test_the_same_command_inside_and_outside_the_dedupe_window_has_one_effect(
    yard: Yard, served: str
) -> None:
    subject = topology.command("default", "container", "create")
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "the-same-command",
        "ce-type": "modelyard.cmd.container.create",
        "ce-source": "automation",
    }
    body = f'{{"image": "{served}", "name": "once"}}'.encode()
    before = await yard.system.get(yard.api, "/dead-letters")
    async with Bus.open(yard.nats.url, name="automation") as bus:
        for message_id in ("a", "a", "b", "c"):
            await bus.publish_raw(subject, body, headers | {"Nats-Msg-Id": message_id})
    page = await yard.system.until(
        yard.api,
        "/containers?name=once",
        lambda page: [c["status"] for c in page["items"]] == ["RUNNING"],
    )
    assert len(page["items"]) == 1
    assert len(await yard.system.engine_containers()) == 1
    assert await yard.system.get(yard.api, "/dead-letters") == before


async def test_an_order_with_an_old_fencing_number_is_refused(yard: Yard, served: str) -> None:
    container = await yard.system.run(yard.api, served)
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "late",
        "Nats-Msg-Id": "late",
        "ce-type": "modelyard.node.remove",
        "ce-source": "a worker that was asleep",
    }
    old = container["fence"] - 1
    body = f'{{"container": "{container["uuid"]}", "org": "default", "fence": {old}}}'.encode()
    async with Bus.open(yard.nats.url, name="late") as bus:
        await bus.publish_raw(topology.node_order(container["node"], "remove"), body, headers)
        stage = topology.node_stage(container["node"])
        await eventually(lambda: done(bus, stage))
    (seen,) = await yard.system.engine_containers(container["uuid"])
    assert seen.running
    found = await yard.system.get(yard.api, f"/containers/{container['uuid']}")
    assert found["status"] == "RUNNING"


async def done(bus: Bus, stage: topology.StagePlan) -> bool:
    info = await bus.client.jetstream().consumer_info(stage.stream.name, stage.durable)
    return info.num_pending == 0 and info.num_ack_pending == 0
