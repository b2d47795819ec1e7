"""Random kills of everything under mixed load: nothing acknowledged is lost, no GPU given twice.

SOAK_MINUTES shortens or lengthens it, SOAK_SEED repeats the dice of an earlier one:
`SOAK_MINUTES=5 make soak`.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from pipeline.stack.pieces.dockerd import DockerdPiece
from pipeline.stack.pieces.mongod import MongodPiece
from pipeline.stack.pieces.nats import NatsPiece
from tests.chaos.soak import Callers, Killer, Onlooker
from tests.support.systems.system import System
from tests.support.waiting import eventually

MINUTES = float(os.environ.get("SOAK_MINUTES", "30"))
CALLERS = 3
GPUS = "4xH100-80GB"
SETTLED_S = 120
MEMORY_MAX_MIB = 200
GROWTH_MAX = 1.3


@pytest.mark.soak
@pytest.mark.timeout(60 * MINUTES + 900)
async def test_thirty_minutes_of_random_kills_lose_nothing(
    own_mongod: MongodPiece,
    own_dockerd: DockerdPiece,
    own_nats: NatsPiece,
    system: System,
    served: str,
) -> None:
    seed = os.environ.get("SOAK_SEED") or str(random.randrange(10**6))
    print(f"SOAK_SEED={seed}", flush=True)
    dice = random.Random(seed)
    system.settings["MONGO_URL"] = own_mongod.url
    system.settings["DOCKER_HOST"] = system.docker_host = own_dockerd.host
    system.settings["ACCESS_TOKEN_S"] = str(24 * 3600)  # callers log in once
    ours = await two_of_each(system)
    apis: Any = [ours["api-1"], ours["api-2"]]
    await system.login(apis[0])
    await system.nodes(apis[0], 2)
    image = await system.image(apis[0], served)
    callers = Callers(system, apis, image["uuid"], dice)
    killer = Killer({"nats": own_nats, "mongod": own_mongod, "dockerd": own_dockerd} | ours, dice)
    onlooker = Onlooker(system, own_dockerd.host, ours)
    async with in_the_background(onlooker.run()), asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(callers.run())
        await killer.run(until=time.monotonic() + 60 * MINUTES)
        callers.is_over = True
    print(f"{len(killer.faults)} faults, {len(callers.given_up)} deleted, {len(callers.kept)} kept")
    assert onlooker.shared == []
    assert callers.refused == []
    assert callers.given_up
    await all_that_was_promised(system, apis[0], callers)
    for name in ours:
        assert max(onlooker.memory[name]) < MEMORY_MAX_MIB
        assert onlooker.growth(name) < GROWTH_MAX, onlooker.memory[name]


async def two_of_each(system: System) -> dict[str, Any]:
    return {
        "api-1": await system.api(),
        "api-2": await system.api(),
        "worker-1": await system.worker(),
        "worker-2": await system.worker(),
        "agent-a": await system.agent("node-a", SIMULATED_GPUS=GPUS),
        "agent-b": await system.agent("node-b", SIMULATED_GPUS=GPUS),
    }


@asynccontextmanager
async def in_the_background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Whatever fails there fails here."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work)
        yield
        task.cancel()


async def all_that_was_promised(system: System, api: Any, callers: Callers) -> None:
    await system.nodes(api, 2)
    for container in callers.given_up:
        await eventually(partial(is_gone, system, api, container), timeout_s=SETTLED_S)
    records: list[dict[str, Any]] = []

    async def settled() -> bool:
        """Each runs, or waits because no node has as many GPUs to spare."""
        records[:] = [await system.get(api, f"/containers/{each}") for each in callers.kept]
        nodes = (await system.get(api, "/nodes"))["items"]
        spare = max(len(node["inventory"]["gpus"]) - len(node["held"]) for node in nodes)
        return all(
            each["status"] == "RUNNING"
            or (each["status"] == "REQUESTED" and each["spec"]["gpus"] > spare)
            for each in records
        )

    try:
        await eventually(settled, timeout_s=SETTLED_S)
    except AssertionError as error:
        states = [(each["uuid"], each["status"], each["reason"]) for each in records]
        raise AssertionError(f"{states}") from error
    placed = {each["uuid"] for each in records if each["status"] == "RUNNING"}
    await eventually(partial(exactly_these_run, system, placed), timeout_s=SETTLED_S)
    nodes = (await system.get(api, "/nodes"))["items"]
    held = sum(len(node["held"]) for node in nodes)
    assert held == sum(len(each["gpus"]) for each in records if each["uuid"] in placed)


async def is_gone(system: System, api: Any, container: str) -> bool:
    answer = await system.call(api, "GET", f"/containers/{container}")
    return answer.status_code == 404 or answer.json().get("status") == "DELETED"


async def exactly_these_run(system: System, containers: set[str]) -> bool:
    """Each once. What is to go from a node that came back goes with its next reconciliation."""
    seen = [each for each in await system.engine_containers() if each.running]
    running = Counter(each.labels["modelyard.container"] for each in seen)
    if running != Counter(containers):
        odd = (running - Counter(containers)) + (Counter(containers) - running)
        print(f"not as promised: {odd}", flush=True)
    return running == Counter(containers)
