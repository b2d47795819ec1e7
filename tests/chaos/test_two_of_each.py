"""Two APIs, two workers, two agents: every command has one effect, every reader sees all."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from pipeline.stack.pieces.app import ApiPiece
from tests.support.systems.system import System

COMMANDS = 10


async def test_every_command_has_one_effect_and_every_reader_sees_everything(
    system: System, served: str
) -> None:
    apis = [await system.api(), await system.api()]
    for name in ("node-a", "node-b"):
        await system.worker()
        await system.agent(name, SIMULATED_GPUS="4xA100-40GB")
    await system.login(apis[0])
    await system.nodes(apis[0], 2)
    await system.image(apis[0], served)
    readers = [asyncio.create_task(running_seen(system, api)) for api in apis]
    answers = await asyncio.gather(
        *(
            system.call(
                apis[number % 2],
                "POST",
                "/containers",
                json={"image": served, "name": f"c{number // 2}", "gpus": 1},
                headers={"Idempotency-Key": f"key-{number // 2}"},
            )
            for number in range(COMMANDS)
        )
    )
    uuids = {answer.json()["uuid"] for answer in answers}
    assert len(uuids) == COMMANDS // 2
    async with asyncio.timeout(60):
        seen = [await reader for reader in readers]
    assert [set(each) for each in seen] == [uuids, uuids]
    assert [sorted(each) for each in seen] == [sorted(uuids), sorted(uuids)]
    assert len(await system.engine_containers()) == len(uuids)
    nodes = (await system.get(apis[1], "/nodes"))["items"]
    assert sum(len(node["held"]) for node in nodes) == len(uuids)


async def running_seen(system: System, api: ApiPiece) -> list[str]:
    """ids of containers that were announced as running, in order, until all were."""
    found: list[str] = []
    url = f"http://127.0.0.1:{api.port}/yard/v1/events?resource=container"
    async with system.http.stream("GET", url, headers={"Last-Event-ID": "0-0"}) as answer:
        data: dict[str, Any] = {}
        async for line in answer.aiter_lines():
            if line.startswith("data:"):
                data = json.loads(line[5:])
                about = data.get("data", data)
                if about.get("status") == "RUNNING":
                    found.append(about["id"])
            if len(found) >= COMMANDS // 2:
                break
    return found
