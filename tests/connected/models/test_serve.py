"""§8: calls of a version, and the container that answers them until it is idle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from pipeline.access.roles import acting_for
from pipeline.bootstrap.control_plane import Services as Opened
from pipeline.bootstrap.control_plane import open_services
from pipeline.records.kernel import now
from pipeline.settings import Settings
from pipeline.stack.pieces.app import ApiPiece
from schemas.deployment import Deployment
from tests.connected.models.conftest import Models
from tests.connected.models.test_events import until
from tests.support.models.models_door import Door, Version
from tests.support.systems.system import System
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("no_containers_stay")


async def loaded(door: Door, image: str, **patch: Any) -> Version:
    made = await door.create()
    if patch:
        await made.patch(**patch)
    await made.delivered(image)
    assert (await made.load()).status_code == 200
    return made


async def run(made: Version, **body: Any) -> httpx.Response:
    return await made.call("POST", "run", json=body)


async def shut_down(made: Version) -> None:
    answer = await made.call("POST", "shutdown")
    assert (answer.status_code, answer.json()) == (200, {"running": False})


async def engine_ids(system: System) -> list[str]:
    return [each.id for each in await system.engine_containers()]


async def the_only(system: System) -> str:
    """Id of the container that is there once what the test before ended is gone."""

    async def alone() -> bool:
        return len(await engine_ids(system)) == 1

    await eventually(alone)
    (only,) = await engine_ids(system)
    return only


async def none_left(system: System) -> None:
    async def gone() -> bool:
        return await system.engine_containers() == []

    await eventually(gone)


async def test_the_body_goes_to_the_model_as_it_was_sent(
    door: Door, well: str, models_system: System
) -> None:
    made = await loaded(door, well)
    body = b'{ "a":1.50,  "b": "\xc3\xa4" }'
    answer = await made.call(
        "POST", "run", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 200
    shown = answer.json()
    assert (shown["statusCode"], shown["output"]) == (200, {"a": 1.5, "b": "ä"})
    assert isinstance(shown["elapsedTime"], int)
    assert set(shown) == {"statusCode", "output", "elapsedTime"}
    (first,) = await engine_ids(models_system)
    assert (await run(made, b=2)).json()["output"] == {"b": 2}
    assert await engine_ids(models_system) == [first]
    await shut_down(made)
    assert await engine_ids(models_system) == []
    told = [kind for kind, _ in await until(models_system, made, "container.stopped")]
    assert told.count("container.stopped") == 2, told  # the load test's, and this one


async def test_without_a_container_a_shutdown_says_the_same(door: Door, well: str) -> None:
    made = await door.create()
    await shut_down(made)
    await made.delivered(well)
    await shut_down(made)
    assert (await door.call("POST", "/models/nobody/versions/1.0.0/shutdown")).status_code == 404


async def test_it_is_refused_before_the_model_is_loaded(door: Door, well: str) -> None:
    made = await door.create()
    assert (await run(made)).status_code == 409
    await made.delivered(well)
    answer = await run(made)
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b'{"a": NaN}', "application/json", 400),
        (b"[1]", "application/json", 422),
        (b"a=1", "application/x-www-form-urlencoded", 415),
    ],
)
async def test_what_is_no_json_object_is_refused(
    door: Door, body: bytes, kind: str, status: int
) -> None:
    made = await door.create()
    answer = await made.call("POST", "run", content=body, headers={"Content-Type": kind})
    assert answer.status_code == status


async def test_first_calls_at_once_start_one_container(
    door: Door, models: Models, models_system: System
) -> None:
    made = await loaded(door, models(STATUS_DELAY="0.5"))
    answers = await asyncio.gather(*(run(made, number=each) for each in range(6)))
    assert [each.json()["output"] for each in answers] == [{"number": each} for each in range(6)]
    await the_only(models_system)
    await shut_down(made)


FAILURES = [
    ({"RUN_CODE": "500", "RUN_BODY": "no tensor"}, "run_failed", "answered 500: no tensor"),
    ({"RUN_CODE": "429", "RUN_HEADER": "Retry-After: 7"}, "run_failed", "answered 429"),
    ({"RUN_DELAY": "9"}, "run_timeout", "not answered within 0.5 s"),
]


@pytest.mark.parametrize(("env", "code", "says"), FAILURES)
async def test_a_call_that_fails_is_told_why(
    door: Door, models: Models, env: dict[str, str], code: str, says: str
) -> None:
    made = await loaded(door, models(**env), timeout={"run": 500})
    answer = await run(made)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert says in answer.json()["message"]
    technical = answer.json()["technicalInformation"]
    assert "starting on port 8080" in technical
    # As a header it would have clients of this door repeat their POST.
    assert env.get("RUN_HEADER", "") in technical
    assert "retry-after" not in answer.headers
    await shut_down(made)


async def test_an_output_that_is_no_json_is_text(door: Door, models: Models) -> None:
    told = {"RUN_TYPE": "text/plain", "RUN_CODE": "201", "RUN_HEADER": "X-Request-Cost: 3"}
    made = await loaded(door, models(RUN_BODY="a cat", **told))
    answer = await run(made)
    shown = answer.json()
    assert (shown["statusCode"], shown["output"]) == (201, "a cat")
    assert answer.headers["x-request-cost"] == "3"
    assert answer.headers["content-type"] == "application/json"
    await shut_down(made)


@pytest.mark.parametrize("body", ['{"a": "\\ud800"}', '{"a": 1e999}'])
async def test_an_output_that_cannot_be_written_as_json_is_text(
    door: Door, well: str, body: str
) -> None:
    made = await loaded(door, well)
    answer = await made.call(
        "POST", "run", content=body, headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["output"]) == (200, body)
    await shut_down(made)


async def test_a_container_that_is_gone_is_replaced(
    door: Door, well: str, models_system: System, api: ApiPiece
) -> None:
    made = await loaded(door, well)
    await run(made)
    (first,) = (await models_system.get(api, "/containers?status=RUNNING"))["items"]
    await models_system.call(api, "DELETE", f"/containers/{first['uuid']}", params={"wait": 20})
    assert (await run(made, again=True)).json()["output"] == {"again": True}
    (second,) = (await models_system.get(api, "/containers?status=RUNNING"))["items"]
    assert second["uuid"] != first["uuid"]
    await shut_down(made)


async def test_another_image_ends_the_container(
    door: Door, well: str, linked: str, models_system: System
) -> None:
    made = await loaded(door, well)
    await run(made)
    await made.delivered(linked)
    await none_left(models_system)
    assert (await run(made)).status_code == 409


async def test_another_requirement_ends_the_container(
    door: Door, well: str, models_system: System
) -> None:
    made = await loaded(door, well)
    await run(made)
    await made.patch(requirement={"requirementId": -6})
    await none_left(models_system)
    answer = await run(made)
    assert (answer.status_code, answer.json()["code"]) == (422, "gpu_unavailable")
    await made.patch(requirement={"requirementId": 1})
    assert (await run(made)).status_code == 200
    await shut_down(made)


async def test_a_delivery_during_the_start_leaves_no_container(
    door: Door, models: Models, linked: str, models_system: System
) -> None:
    made = await loaded(door, models(STATUS_DELAY="2"))
    asked = asyncio.create_task(run(made))

    async def is_there() -> bool:
        return bool(await models_system.engine_containers())

    await eventually(is_there)
    await made.link(linked)
    assert (await asked).status_code == 409
    await made.settled()
    await none_left(models_system)


async def test_it_survives_the_server(
    door: Door, well: str, models_system: System, api: ApiPiece
) -> None:
    made = await loaded(door, well)
    assert (await run(made)).status_code == 200
    first = await the_only(models_system)
    await api.kill()
    await api.start()
    assert (await run(made)).status_code == 200
    assert await engine_ids(models_system) == [first]
    await shut_down(made)


class TestIdle:
    """Workers look for idle containers all the time: here calls only look older than they are."""

    @pytest.fixture
    async def opened(self, models_system: System) -> AsyncIterator[Opened]:
        values = {name.lower(): value for name, value in models_system.settings.items()}
        async with open_services(Settings(**values), name="test") as services:
            yield services

    async def deployment(self, opened: Opened, made: Version) -> Deployment:
        caller = acting_for(opened.settings.org, None)
        version = await opened.models.versions.get(caller, made.identifier, made.version)
        return await opened.models.serving.deployment(caller, version)

    async def age(self, opened: Opened, made: Version, *, idle_for_s: float) -> None:
        deployment = await self.deployment(opened, made)
        aged = await opened.records.store.update(
            Deployment,
            deployment.uuid,
            org=deployment.org,
            guard={"replicas": 1},
            update={"$set": {"idle_at": now() + timedelta(seconds=-idle_for_s)}},
        )
        assert aged is not None

    async def test_an_idle_container_is_ended(
        self, door: Door, well: str, models_system: System, opened: Opened
    ) -> None:
        made = await loaded(door, well)
        await run(made)
        await self.age(opened, made, idle_for_s=-60)
        await opened.deployments.reconciler.sweep_idle()
        assert (await run(made)).status_code == 200
        await the_only(models_system)
        await self.age(opened, made, idle_for_s=1)
        await none_left(models_system)
        await until(models_system, made, "container.stopped")

    async def test_a_call_under_way_is_use(
        self, door: Door, models: Models, models_system: System, opened: Opened
    ) -> None:
        made = await loaded(door, models(RUN_DELAY="1"))
        await run(made)
        await self.age(opened, made, idle_for_s=-0.3)
        asked = asyncio.create_task(run(made))

        async def is_called() -> bool:
            idle_at = (await self.deployment(opened, made)).idle_at
            return idle_at is not None and idle_at > now() + timedelta(minutes=10)

        await eventually(is_called)
        await opened.deployments.reconciler.sweep_idle()
        assert (await asked).status_code == 200
        await self.age(opened, made, idle_for_s=1)
        await none_left(models_system)

    async def test_a_call_that_meets_the_end_is_answered_all_the_same(
        self, door: Door, well: str, opened: Opened
    ) -> None:
        made = await loaded(door, well)
        await run(made)
        for number in range(3):
            await self.age(opened, made, idle_for_s=1)
            sweep = opened.deployments.reconciler.sweep_idle()
            _, *answers = await asyncio.gather(sweep, run(made, n=number), run(made, n=number))
            for answer in answers:
                assert answer.json().get("output") == {"n": number}, answer.text
        await shut_down(made)
