"""The services under us die under work and come back: nothing is lost, everybody resumes."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from pipeline.stack.processes.piece import Piece
from tests.chaos.conftest import Yard
from tests.support.systems.system import System
from tests.support.waiting import eventually

IN_FLIGHT = 6


async def start_some(system: System, api: Any, image: str, prefix: str) -> list[str]:
    """uuids of containers whose creation was acknowledged."""
    answers = await asyncio.gather(
        *(
            system.call(
                api, "POST", "/containers", json={"image": image, "name": f"{prefix}{number}"}
            )
            for number in range(IN_FLIGHT)
        ),
        return_exceptions=True,
    )
    return [
        answer.json()["uuid"]
        for answer in answers
        if isinstance(answer, httpx.Response) and answer.is_success
    ]


async def test_a_broker_killed_under_work_loses_no_acknowledged_command(
    yard: Yard, served: str
) -> None:
    asking = asyncio.create_task(start_some(yard.system, yard.api, served, "n"))
    await yard.nats.kill()
    await yard.nats.start()
    uuids = await asking
    assert uuids
    await all_run_once(yard.system, yard.api, uuids)


@pytest.mark.parametrize("which", ["mongod", "dockerd"])
async def test_a_store_or_engine_killed_under_work_loses_nothing(
    which: str, yard: Yard, served: str
) -> None:
    victim: Piece = {"mongod": yard.mongod, "dockerd": yard.dockerd}[which]
    uuids = await start_some(yard.system, yard.api, served, which[0])
    await victim.kill()
    await victim.start()
    assert len(uuids) == IN_FLIGHT
    await all_run_once(yard.system, yard.api, uuids)


@pytest.mark.parametrize("ends", [("agent", "dockerd"), ("dockerd",), ("dockerd!",)])
async def test_what_runs_is_up_again_after_its_engine_was_stopped(
    ends: tuple[str, ...], yard: Yard, served: str
) -> None:
    """Its policy is the default one, and it exits with code 0 when it is told to end."""
    system, api = yard.system, yard.api
    policies = ("no", "on-failure", "always")
    uuids = [(await system.run(api, served, restart=policy))["uuid"] for policy in policies]
    pieces: dict[str, Piece] = {"agent": yard.agent, "dockerd": yard.dockerd}
    for name in ends:
        await (pieces["dockerd"].kill() if name.endswith("!") else pieces[name].stop())
    for name in reversed(ends):
        await pieces[name.rstrip("!")].start()
    for uuid in uuids:
        path = f"/containers/{uuid}"
        await system.until(api, path, lambda c: c["status"] == "RUNNING" and was_started_again(c))
    assert sum(seen.running for seen in await system.engine_containers()) == len(policies)


async def test_readiness_names_what_is_away_and_comes_back(yard: Yard) -> None:
    await yard.nats.kill()
    url = f"http://127.0.0.1:{yard.api.port}/readyz"

    async def ready() -> bool:
        return (await yard.system.http.get(url)).status_code == 200

    assert (await yard.system.http.get(url)).status_code == 503
    assert "bus" in (await yard.system.http.get(url)).text
    await yard.nats.start()
    await eventually(ready, timeout_s=20)


def was_started_again(container: dict[str, Any]) -> bool:
    """Or launched anew, where its node was away for so long that it counted as lost."""
    return container["restarts"] + container["fence"] > 1


async def all_run_once(system: System, api: Any, uuids: list[str]) -> None:
    for uuid in uuids:
        await system.until(api, f"/containers/{uuid}", lambda c: c["status"] == "RUNNING", 60)
    seen = await system.engine_containers()
    running = sorted(c.labels["modelyard.container"] for c in seen if c.running)
    assert running == sorted(uuids)
