"""§7: the load test."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.connected.models.conftest import Models
from tests.support.archives.image_delivery import push
from tests.support.archives.images import busybox_image
from tests.support.models.models_door import Door, Version
from tests.support.systems.system import System
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("no_containers_stay")


async def loaded(door: Door, image: str, **patch: Any) -> Version:
    """A version of that image, delivered."""
    made = await door.create("classifier")
    if patch:
        await made.patch(**patch)
    await made.delivered(image)
    return made


async def test_a_model_that_is_well_is_loaded(door: Door, well: str) -> None:
    made = await loaded(door, well)
    answer = await made.load()
    assert answer.status_code == 200
    assert answer.json() == {
        "step": 2,
        "stepName": "Checking status endpoint",
        "percentage": 100,
        "status": "loaded",
    }
    assert await made.get("load-process") == answer.json()
    shown = await made.get("container-image")
    assert (shown["status"], shown["loadPercentage"], shown["percentage"]) == ("loaded", 100, 100)
    assert shown["loadStatus"] == "2: Checking status endpoint (100%)"
    whole = await made.get()
    assert whole["loadStatus"] == {
        "step": 2,
        "stepName": "Checking status endpoint",
        "percentage": 100,
    }


async def test_what_was_proved_may_be_activated_until_another_image_comes(
    door: Door, well: str, linked: str
) -> None:
    made = await loaded(door, well)
    await made.load()
    assert (await made.patch(status="active"))["status"] == "active"
    shown = await made.link(linked)
    assert (shown["percentage"], shown["loadPercentage"], shown["step"]) == (0, 0, 0)
    whole = await made.get()
    assert whole["status"] == "inactive"
    assert (await made.call("PATCH", json={"status": "active"})).status_code == 409


async def test_before_a_complete_image_there_is_nothing_to_load(
    door: Door, registry_host: str
) -> None:
    made = await door.create()
    assert (await made.load()).status_code == 409
    assert (await made.get("load-process"))["percentage"] == 0
    await made.link(f"{registry_host}/no/such:1")
    await made.settled()
    answer = await made.load()
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert "manifest_not_found" in answer.json()["technicalInformation"]


async def test_callers_share_a_test_under_way(
    door: Door, models: Models, models_system: System
) -> None:
    made = await loaded(door, models(STATUS_DELAY="1"))
    asked = [asyncio.create_task(made.load()) for _ in range(3)]
    await made.until_status("loading")
    most = 0
    while not all(each.done() for each in asked):
        most = max(most, len(await models_system.engine_containers()))
        await asyncio.wait(asked, timeout=0.1)
    answers = [await each for each in asked]
    assert [each.status_code for each in answers] == [200, 200, 200]
    assert most == 1


async def test_what_succeeded_is_not_tested_again_unless_something_changed(
    door: Door, models: Models
) -> None:
    made = await loaded(door, models(STATUS_DELAY="1"))
    await made.load()
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert (await made.load()).status_code == 200
    assert loop.time() - began < 1
    await made.patch(timeout={"status": 50_000}, longDescription="the same image")
    asked = asyncio.create_task(made.load())
    await made.until_status("loading")
    assert (await asked).status_code == 200


async def test_the_test_goes_on_when_its_caller_leaves(door: Door, models: Models) -> None:
    made = await loaded(door, models(STATUS_DELAY="1"))
    with pytest.raises(httpx.ReadTimeout):
        await made.load(timeout=0.5)
    assert (await made.until_status("loaded"))["loadPercentage"] == 100


FAILURES = [
    ({"STATUS_TYPE": "text/plain"}, "status_content_type", "text/plain", 10),
    ({"STATUS_BODY": "[1]"}, "status_not_json", "not a JSON object", 10),
    ({"STATUS_BODY": "{"}, "status_not_json", "not a JSON object", 10),
    ({"STATUS_CODE": "503"}, "status_error", "503", 1.5),
    ({"DEAF": "1"}, "never_listened", "port 8080 within 1.5 s", 1.5),
    ({"EXIT_CODE": "7"}, "crash_loop", "exit code 7", 30),
    ({"EXIT_CODE": "0"}, "crash_loop", "exit code 0", 30),
]


@pytest.mark.parametrize(
    ("env", "code", "says", "within_s"), FAILURES, ids=[str(row[0]) for row in FAILURES]
)
async def test_a_model_that_is_not_well_is_told_why(
    door: Door, models: Models, env: dict[str, str], code: str, says: str, within_s: float
) -> None:
    made = await loaded(door, models(**env), timeout={"status": int(within_s * 1000)})
    answer = await made.load()
    body = answer.json()
    assert (answer.status_code, body["code"]) == (422, code)
    assert says in body["message"]
    assert "starting on port 8080" in body["technicalInformation"]
    shown = await made.get("container-image")
    assert (shown["status"], shown["percentage"]) == ("failed", 100)
    assert shown["step"] == 2 or code == "crash_loop"
    assert shown["technicalInformation"] == body["technicalInformation"]
    assert (await made.get("load-process"))["status"] == "failed"


async def test_what_the_status_answered_is_told(door: Door, models: Models) -> None:
    made = await loaded(door, models(STATUS_CODE="500"), timeout={"status": 1500})
    body = (await made.load()).json()
    assert (
        'GET /status answered 500, application/json: {"ok": true}' in body["technicalInformation"]
    )
    assert "1.5 s" in body["message"]


async def test_after_a_failure_it_is_tested_again(door: Door, models: Models) -> None:
    made = await loaded(door, models(STATUS_TYPE="text/html"))
    assert (await made.load()).status_code == 422
    asked = asyncio.create_task(made.load())
    await made.until_status("loading")
    assert (await asked).status_code == 422


async def test_a_command_that_does_not_exist_cannot_be_launched(
    door: Door, registry_host: str
) -> None:
    push(busybox_image(command=["/no/such"]), registry_host, "models/broken", "1")
    made = await loaded(door, f"{registry_host}/models/broken:1")
    answer = await made.load()
    assert (answer.status_code, answer.json()["code"]) == (422, "launch_failed")
    assert "/no/such" in answer.json()["technicalInformation"]


async def test_without_a_gpu_it_is_told_before_anything_is_pulled(door: Door, well: str) -> None:
    made = await loaded(door, well, requirement={"requirementId": -6})
    answer = await made.load()
    assert (answer.status_code, answer.json()["code"]) == (422, "gpu_unavailable")
    shown = await made.get("container-image")
    assert (shown["step"], shown["loadPercentage"], shown["status"]) == (1, 33, "failed")


async def test_what_no_node_has_is_named(door: Door, well: str) -> None:
    made = await loaded(door, well, requirement={"requirementId": 6})
    answer = await made.load()
    assert (answer.status_code, answer.json()["code"]) == (422, "insufficient_resources")
    assert "16 CPU, 64 GiB" in answer.json()["message"]


async def test_an_image_for_another_platform_registers_and_does_not_load(
    door: Door, models: Models, well: str
) -> None:
    made = await loaded(door, models(platform="linux/arm64"), requirement={"requirementId": -99})
    assert (await made.get("container-image"))["percentage"] == 100
    answer = await made.load()
    assert (answer.status_code, answer.json()["code"]) == (422, "platform_unavailable")
    assert "linux/arm64" in answer.json()["message"]
    assert "linux/amd64" in answer.json()["message"]
    native = await loaded(door, well, requirement={"requirementId": -99})
    assert (await native.load()).status_code == 200


async def test_a_new_delivery_voids_a_test_under_way(
    door: Door, models: Models, linked: str, models_system: System
) -> None:
    made = await loaded(door, models(STATUS_DELAY="30"))
    asked = asyncio.create_task(made.load())
    await made.until_status("loading")

    async def runs() -> bool:
        return any(each.running for each in await models_system.engine_containers())

    await eventually(runs)
    await made.link(linked)
    answer = await asked
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    await made.settled()
    assert (await made.get("load-process"))["percentage"] == 0

    async def gone() -> bool:
        return await models_system.engine_containers() == []

    await eventually(gone)


async def test_the_container_has_its_limits_and_only_we_reach_it(
    door: Door, models: Models, models_system: System
) -> None:
    made = await loaded(door, models(STATUS_DELAY="2"))
    asked = asyncio.create_task(made.load())

    async def runs() -> bool:
        return any(each.running for each in await models_system.engine_containers())

    await eventually(runs)
    (seen,) = await models_system.engine_containers()
    assert [(port.internal, port.address) for port in seen.ports] == [(8080, "127.0.0.1")]
    assert seen.labels["model.identifier"] == made.identifier
    assert (await asked).status_code == 200


async def test_a_stubborn_model_is_stopped_in_the_end(door: Door, models: Models) -> None:
    made = await loaded(door, models(STUBBORN="1"))
    assert (await made.load()).status_code == 200
