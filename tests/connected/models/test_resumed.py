"""What a killed worker left off is gone on with by the next one."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.stack.app import AppPiece
from tests.connected.models.conftest import Models
from tests.support.models_door import Door
from tests.support.system import System
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("no_containers_stay")


async def test_a_load_test_survives_its_worker(
    door: Door, models: Models, models_system: System, worker: AppPiece
) -> None:
    made = await door.create()
    await made.delivered(models(STATUS_DELAY="3"))
    asked = asyncio.create_task(made.load())

    async def runs() -> bool:
        return any(each.running for each in await models_system.engine_containers())

    await eventually(runs)
    (before,) = await models_system.engine_containers()
    await worker.kill()
    await worker.start()
    assert (await asked).status_code == 200
    assert before.id not in {each.id for each in await models_system.engine_containers()}
