"""§4: what polling shows, row by row, from the first byte to a loaded model."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.connected.models.conftest import Models
from tests.connected.models.test_archives import ARCHIVE, TAR, SlowSender
from tests.connected.models.test_events import until
from tests.connected.models.test_run import finished, ready
from tests.support.models.models_door import Door, Version
from tests.support.systems.system import System
from tests.support.waiting import eventually

STATUSES = ["uploading", "uploaded", "loading", "loaded"]
STEP_NAMES = {
    0: "Uploading container image",
    1: "Loading model 'my classifier'",
    2: "Checking status endpoint",
}


async def polled(made: Version, *, until_status: str) -> list[dict[str, Any]]:
    """Every object that polling showed, as fast as it could be asked."""
    seen: list[dict[str, Any]] = []

    async def is_there() -> bool:
        seen.append(await made.get("container-image"))
        return bool(seen[-1]["status"] == until_status)

    await eventually(is_there, timeout_s=60)
    return seen


def assert_rows(seen: list[dict[str, Any]]) -> None:
    """What the table says of every moment."""
    for each in seen:
        uploaded, loaded, step = each["percentage"], each["loadPercentage"], each["step"]
        assert each["uploadPercentage"] == uploaded
        assert each["uploadStatus"] == each["stepName"] == STEP_NAMES[step]
        assert each["loadStatus"] == f"{step}: {each['stepName']} ({loaded}%)"
        numbers = (uploaded, loaded, step, each["containerImageSize"])
        assert all(type(number) is int for number in numbers)
        if each["status"] == "loading":
            assert uploaded == 100
            assert 33 <= loaded <= 65 if step == 1 else 66 <= loaded <= 99
        elif each["status"] == "loaded":
            assert (uploaded, loaded, step) == (100, 100, 2)
        else:
            assert (loaded, step) == (0, 0)
            assert (uploaded == 100) == (each["status"] == "uploaded")
        assert each["technicalInformation"] is None
    for rising in ("percentage", "loadPercentage", "step"):
        values = [each[rising] for each in seen]
        assert values == sorted(values)
    order = [STATUSES.index(each["status"]) for each in seen]
    assert order == sorted(order)


@pytest.mark.usefixtures("no_containers_stay")
async def test_every_moment_of_a_link_is_a_row_of_the_table(door: Door, models: Models) -> None:
    made = await door.create("my classifier")
    seen = [await made.link(models(STATUS_DELAY="1"))]
    seen += await polled(made, until_status="uploaded")
    loading = asyncio.create_task(made.load())
    seen += await polled(made, until_status="loaded")
    assert (await loading).status_code == 200
    assert_rows(seen)
    assert {each["step"] for each in seen} == {0, 1, 2}
    assert [each["status"] for each in seen[:1]] == ["uploading"]


async def test_with_unknown_length_the_percentage_stays_0_until_all_is_verified(door: Door) -> None:
    made, sender = await door.create("my classifier"), SlowSender(ARCHIVE)
    asked = asyncio.create_task(made.call("POST", "container-image", content=sender, headers=TAR))
    sender.allow(7)
    seen: list[dict[str, Any]] = []

    async def has_arrived() -> bool:
        answer = await made.call("GET", "container-image")
        if answer.status_code == 200:
            seen.append(answer.json())
        return bool(seen)

    await eventually(has_arrived)
    sender.allow(3)
    settled: httpx.Response = await asked
    assert_rows([*seen, settled.json()])
    assert {each["percentage"] for each in seen} <= {0, 100}
    assert settled.json()["percentage"] == 100


async def test_a_form_must_hold_an_archive(door: Door) -> None:
    made = await door.create()
    empty = await made.call("POST", "container-image", files={"file": ("image.tar", b"")})
    assert empty.status_code == 422
    assert (await made.call("GET", "container-image")).status_code == 422
    absent = await made.call("POST", "container-image", files={"image": ("image.tar", ARCHIVE)})
    assert absent.status_code == 422


@pytest.mark.usefixtures("no_containers_stay")
async def test_a_run_that_fails_is_told_with_the_object(
    door: Door, models: Models, models_system: System
) -> None:
    made = await ready(door, models(RUN_CODE="500"))
    await made.call("POST", "run-process")
    await finished(made)
    told = await until(models_system, made, "run.failed")
    assert [kind for kind, _ in told][-2:] == ["container.stopped", "run.failed"]
    assert told[-1][1]["containerImage"] == await made.get("container-image")
    assert (told[-1][1]["identifier"], told[-1][1]["version"]) == (made.identifier, "1.0.0")
