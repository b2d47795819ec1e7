"""What callers notice of an edit that rolls, and of a replica that is killed.

python -m tests.bench.bench_rollouts [--rounds N]

Two replicas behind the gateway are called 50 times a second, while each gives way to a new one, and
while one of them is killed. The waits of the system are shorter than in production.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.adapters.engine.docker import DockerEngine
from tests.bench.rows import Row, keep
from tests.support.systems.deployed_yard import HEALTH, Load, Yard, deployed_yard, reachable
from tests.support.systems.services import Services
from tests.support.waiting import eventually

EACH_S = 1 / 50
AROUND = 50
"""Calls that are answered before and after."""


@dataclass
class Course:
    """All rounds of one kind together."""

    failed: int = 0
    sent: int = 0
    under_way: int = 0
    """Calls that overlapped what was done."""

    async def add(self, yard: Yard, endpoint: str, act: Callable[[], Awaitable[None]]) -> None:
        async with Load(yard, endpoint, each_s=EACH_S) as load:
            await eventually(lambda: load.answered >= AROUND)
            answered = load.answered
            await act()
            self.under_way += load.answered + load.unanswered - answered
            then = load.answered
            await eventually(lambda: load.answered >= then + AROUND, timeout_s=60)
        self.failed += len(load.failed)
        self.sent += load.answered + len(load.failed)


async def rolled(yard: Yard, made: Any, version: int) -> None:
    template = {"image": yard.image, "health": HEALTH, "env": {"VERSION": str(version)}}
    after = await yard.done("PATCH", f"/{made['uuid']}", json={"template": template})
    assert (after["status"], after["ready"]) == ("DEPLOYED", 2), after["reason"]


async def killed(yard: Yard, made: Any) -> None:
    first = (await yard.replicas(made))[0]
    async with DockerEngine.open(yard.system.docker_host) as engine:
        await engine.stop(first["engine_id"], grace_s=0)


async def measured(yard: Yard, rounds: int) -> list[Row]:
    made = await yard.create("chat", 2)
    endpoint, path = made["endpoint"], f"/deployments/{made['uuid']}"
    await reachable(yard, endpoint)
    edits, kills = Course(), Course()
    for number in range(rounds):
        await edits.add(yard, endpoint, lambda version=number: rolled(yard, made, version))
        await kills.add(yard, endpoint, lambda: killed(yard, made))
        await yard.system.until(
            yard.api, path, lambda now: (now["status"], now["ready"]) == ("DEPLOYED", 2), 60
        )
    await yard.deleted(made)
    return [
        Row(
            "calls that failed while edits rolled over 2 replicas, 50 requests/s",
            f"{edits.failed} of {edits.sent}",
            "none",
            edits.failed / edits.sent,
            "0",
            edits.failed == 0,
        ),
        Row(
            "calls that failed when a replica was killed, 50 requests/s",
            f"{kills.failed} of {kills.sent}",
            f"under way meanwhile: {kills.under_way}",
            kills.failed / max(kills.under_way, 1),
            "≤ 1",
            kills.failed <= kills.under_way,
        ),
    ]


async def main(rounds: int) -> None:
    services = Services()
    try:
        mongod, registry, engine = services.mongod(), services.registry(), services.dockerd()
        for piece in (mongod, registry, engine):
            await piece.start()
        with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as folder:
            given = (Path(folder), services, mongod.url, registry.host, engine.host)
            async with deployed_yard(*given) as yard:
                rows = await measured(yard, rounds)
    finally:
        await services.stop()
    keep("rollouts", rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    asyncio.run(main(parser.parse_args().rounds))
