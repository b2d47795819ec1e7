"""§8: the trial run."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.connected.models.conftest import Models
from tests.connected.models.test_events import until
from tests.support.models.models_door import Door, Version
from tests.support.systems.system import System
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("no_containers_stay")

STEPS = {
    0: "Loading model",
    25: "Fetching inputs",
    50: "Submitting inputs",
    75: "Recording outputs",
    100: "Completed",
}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00")


async def ready(door: Door, image: str, **patch: Any) -> Version:
    """A version that is loaded and has a test input."""
    made = await door.create()
    if patch:
        await made.patch(**patch)
    await made.delivered(image)
    assert (await made.load()).status_code == 200
    name = (await made.get())["inputs"][0]["name"]
    await made.call("POST", "testInput", params={"name": name}, files={"file": b'{"a": 1}'})
    return made


async def finished(made: Version, seen: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """What polling shows at 100 percent."""
    shown: dict[str, Any] = {}

    async def is_over() -> bool:
        nonlocal shown
        shown = await made.get("run-process")
        if seen is not None:
            seen.append(shown)
        return bool(shown["percentage"] == 100)

    await eventually(is_over, timeout_s=30)
    return shown


async def test_a_model_runs_with_its_test_input(
    door: Door, models: Models, models_system: System
) -> None:
    image = models(RUN_DELAY="0.5")
    made = await ready(door, image, inputs=[{"name": "my input.json"}])
    assert await made.get("run-process") == {
        "step": 0,
        "stepName": "Loading model",
        "percentage": 0,
        "result": None,
    }
    begun = await made.call("POST", "run-process")
    assert begun.status_code == 202
    assert set(begun.json()) == {"step", "stepName", "percentage", "result"}
    seen: list[dict[str, Any]] = []
    shown = await finished(made, seen)
    assert all(STEPS[each["percentage"]] == each["stepName"] for each in seen)
    assert all(each["step"] * 25 == each["percentage"] for each in seen)
    result = shown["result"]
    assert (result["status"], result["error"]) == ("SUCCESSFUL", None)
    assert result["results.json"] == {"read": 'my input.json={"a": 1};'}
    assert (result["inputSize"], result["engine"]) == (8, "node-a")
    assert result["elapsedTime"] >= 500
    assert isinstance(result["elapsedTime"], int)
    times = [result[name] for name in ("startTime", "endTime", "updateTime")]
    assert all(TIME.fullmatch(each) for each in times)
    assert (await made.get())["runStatus"] == shown
    told = [kind for kind, _ in await until(models_system, made, "run.completed")]
    progressed = ["run.progressed"] * 3
    ends = ["container.stopped", "run.completed"]
    assert told[told.index("run.started") :] == ["run.started", *progressed, *ends]


async def test_it_is_refused_before_the_model_is_loaded(door: Door, well: str) -> None:
    made = await door.create()
    assert (await made.call("POST", "run-process")).status_code == 409
    await made.delivered(well)
    answer = await made.call("POST", "run-process")
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


async def test_it_is_refused_without_a_test_input(door: Door, well: str) -> None:
    made = await door.create()
    await made.delivered(well)
    await made.load()
    answer = await made.call("POST", "run-process")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")


async def test_every_declared_output_is_shown(door: Door, models: Models) -> None:
    outputs = [{"name": "results.json"}, {"name": "notes.txt"}]
    made = await ready(door, models(WRITE_TOO="notes.txt"), outputs=outputs)
    await made.call("POST", "run-process")
    result = (await finished(made))["result"]
    assert result["notes.txt"] == "not json"
    assert result["results.json"] == {"read": 'input={"a": 1};'}


async def test_results_may_come_in_the_answer(door: Door, models: Models) -> None:
    made = await ready(door, models(WRITE_NOTHING="1", RUN_BODY='{"label": "cat"}'))
    await made.call("POST", "run-process")
    assert (await finished(made))["result"]["results.json"] == {"label": "cat"}


FAILURES = [
    ({"RUN_CODE": "500", "RUN_BODY": "no tensor"}, {}, "POST /run answered 500: no tensor"),
    ({"RUN_DELAY": "9"}, {"timeout": {"run": 800}}, "not answered within 0.8 s"),
    ({}, {"outputs": [{"name": "labels.json"}]}, "did not write labels.json"),
]


@pytest.mark.parametrize(("env", "patch", "says"), FAILURES)
async def test_a_run_that_fails_is_told_why(
    door: Door, models: Models, env: dict[str, str], patch: dict[str, Any], says: str
) -> None:
    made = await ready(door, models(**env), **patch)
    await made.call("POST", "run-process")
    result = (await finished(made))["result"]
    assert result["status"] == "FAILED"
    assert says in result["error"]
    assert result["technicalInformation"]
    declared = [each["name"] for each in (await made.get())["outputs"]]
    assert [result[name] for name in (*declared, "results.json")] == [None] * (len(declared) + 1)


async def test_a_run_under_way_is_shared_and_the_next_one_is_another(
    door: Door, models: Models
) -> None:
    made = await ready(door, models(RUN_DELAY="0.5"))
    for _ in range(3):
        assert (await made.call("POST", "run-process")).status_code == 202
    first = await finished(made)
    await made.call("POST", "run-process")
    assert (await made.get("run-process"))["result"] is None
    second = await finished(made)
    assert second["result"]["startTime"] > first["result"]["startTime"]


async def test_a_run_gets_what_the_version_requires_now(door: Door, well: str) -> None:
    """As calls do."""
    made = await ready(door, well)
    await made.patch(requirement={"requirementId": -6})
    await made.call("POST", "run-process")
    result = (await finished(made))["result"]
    assert (result["status"], result["error"]) == ("FAILED", "No node has a GPU.")


async def test_a_new_delivery_voids_a_run_under_way(
    door: Door, models: Models, linked: str, models_system: System
) -> None:
    made = await ready(door, models(RUN_DELAY="30"))
    await made.call("POST", "run-process")

    async def is_submitted() -> bool:
        return bool((await made.get("run-process"))["percentage"] == 50)

    await eventually(is_submitted)
    await made.delivered(linked)
    assert (await made.get("run-process"))["percentage"] == 0

    async def gone() -> bool:
        return await models_system.engine_containers() == []

    await eventually(gone)
