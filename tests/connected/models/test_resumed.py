"""What a killed worker left off is gone on with by the next one."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.stack.pieces.app import AppPiece
from tests.connected.models.conftest import Models
from tests.connected.models.test_run import finished, ready
from tests.connected.models.test_serve import loaded, run, shut_down
from tests.support.models.models_door import Door
from tests.support.systems.system import System
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("no_containers_stay")


async def restart(worker: AppPiece) -> None:
    """Nobody takes over before the broker notices that it is dead, ten seconds later."""
    await worker.kill()
    await worker.start()


async def test_a_load_test_and_a_start_survive_their_worker(
    door: Door, models: Models, models_system: System, worker: AppPiece
) -> None:
    """Both at once: one wait is enough, and two containers fit on a small node."""
    tested = await door.create()
    called = await loaded(door, models(STATUS_DELAY="1.5"))
    await tested.delivered(models(STATUS_DELAY="4"))
    loading = asyncio.create_task(tested.load())
    calling = asyncio.create_task(run(called, a=1))

    async def are_up() -> bool:
        return [each.running for each in await models_system.engine_containers()] == [True, True]

    await eventually(are_up)
    before = {
        each.labels["model.identifier"]: each.id for each in await models_system.engine_containers()
    }
    await restart(worker)
    assert (await loading).status_code == 200
    assert (await calling).json()["output"] == {"a": 1}
    (left,) = await models_system.engine_containers()
    assert left.id == before[called.identifier]
    await shut_down(called)


async def test_a_trial_run_survives_its_worker(
    door: Door, models: Models, worker: AppPiece
) -> None:
    made = await ready(door, models(RUN_DELAY="2"))
    await made.call("POST", "run-process")

    async def is_submitted() -> bool:
        return bool((await made.get("run-process"))["percentage"] == 50)

    await eventually(is_submitted)
    await restart(worker)
    assert (await finished(made))["result"]["status"] == "SUCCESSFUL"
