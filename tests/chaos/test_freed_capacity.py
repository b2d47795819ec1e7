"""What is freed is given on at once: the changes of nodes are followed, nobody has to look."""

from __future__ import annotations

from tests.support.systems.system import System

SOON_S = 5
"""It takes a fraction of a second; this is less than any sweep leaves it waiting."""


async def test_a_gpu_that_is_freed_is_given_on_at_once(system: System, served: str) -> None:
    system.settings |= {"SWEEP_INTERVAL_S": "60", "SIMULATED_GPUS": "1xH100-80GB"}
    api, _, _ = await system.api(), await system.worker(), await system.agent()
    await system.login(api)
    await system.image(api, served)
    await system.nodes(api)
    holder = await system.run(api, served, gpus=1)
    waiting = await system.run(api, served, gpus=1, wait=0)
    path, holding = (f"/containers/{each['uuid']}" for each in (waiting, holder))
    told = await system.until(api, path, lambda c: c["queue_position"] == 1)
    assert "0 free" in next(iter(told["refusals"].values()))[0]
    await system.call(api, "DELETE", holding)
    placed = await system.until(api, path, lambda c: c["status"] != "REQUESTED", SOON_S)
    assert placed["queue_position"] is None
    await system.until(api, path, lambda c: c["status"] == "RUNNING")
    assert placed["gpus"] == holder["gpus"]
