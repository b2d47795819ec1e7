from __future__ import annotations

import asyncio
from typing import Any

import pytest
from httpx import AsyncClient, Response

from pipeline.records.idempotency import id_for
from schemas.container import PortBinding
from schemas.states import ContainerStatus as Status
from tests.support import records as made
from tests.support.http.front import ORG, Front, bearer
from tests.support.waiting import eventually

PATH = "/yard/v1/containers"
BODY = {"image": "model", "env": {"API_TOKEN": "hunter2"}}
UUID = id_for(ORG, "container", "k")


async def run(http: AsyncClient, **options: Any) -> Response:
    return await http.post(PATH, json=BODY, headers={"Idempotency-Key": "k"}, **options)


async def test_a_container_is_accepted_at_once(http: AsyncClient) -> None:
    answer = await run(http)
    assert (answer.status_code, answer.json()["status"]) == (202, "REQUESTED")
    assert answer.headers["location"] == f"{PATH}/{UUID}"


async def test_a_repeat_gets_the_container_of_the_first(http: AsyncClient) -> None:
    await run(http)
    again = await run(http)
    assert (again.json()["uuid"], again.headers["idempotency-replayed"]) == (UUID, "true")


@pytest.mark.parametrize("status", [Status.RUNNING, Status.FAILED, Status.LOST, Status.UNHEALTHY])
async def test_waiting_answers_once_it_runs_or_will_not(
    fake: Front, http: AsyncClient, status: Status
) -> None:
    asked = asyncio.create_task(run(http, params={"wait": 5}))
    await fake.containers.until(UUID)
    for step in (Status.PLACED, Status.PULLING, Status.CREATED, status):
        fake.containers.move(UUID, status=step)
    answer = await asyncio.wait_for(asked, 30)
    assert (answer.status_code, answer.json()["status"]) == (201, status)


@pytest.mark.parametrize(("who", "shown"), [("member", "hunter2"), ("viewer", "***")])
async def test_the_environment_is_for_those_who_may_run(
    http: AsyncClient, who: str, shown: str
) -> None:
    await run(http)
    one = await http.get(f"{PATH}/{UUID}", headers=bearer(who))
    [listed] = (await http.get(PATH, headers=bearer(who))).json()["items"]
    for container in (one.json(), listed):
        assert container["spec"]["env"] == {"API_TOKEN": shown}
        assert (container["spec_hash"] == "***") is (who == "viewer")
    assert one.headers["vary"] == "Authorization"


async def test_a_stop_is_under_way_until_the_node_did_it(fake: Front, http: AsyncClient) -> None:
    await run(http)
    assert (await http.post(f"{PATH}/{UUID}/stop")).status_code == 202
    fake.containers.move(UUID, status=Status.STOPPED)
    assert (await http.post(f"{PATH}/{UUID}/stop")).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "end"),
    [("POST", f"{PATH}/{UUID}/stop", Status.STOPPED), ("DELETE", f"{PATH}/{UUID}", Status.DELETED)],
)
async def test_a_stop_and_a_delete_can_be_waited_for(
    fake: Front, http: AsyncClient, method: str, path: str, end: Status
) -> None:
    await run(http)
    asked = asyncio.create_task(http.request(method, path, params={"wait": 5}))
    await eventually(lambda: fake.containers.kept[UUID].reason == "asked")
    fake.containers.move(UUID, status=end)
    answer = await asyncio.wait_for(asked, 30)
    assert (answer.status_code, answer.json()["status"]) == (200, end)


async def test_a_delete_waits_longer_than_for_the_stop(fake: Front, http: AsyncClient) -> None:
    await run(http)
    fake.containers.move(UUID, status=Status.RUNNING)
    asked = asyncio.create_task(http.delete(f"{PATH}/{UUID}", params={"wait": 0.5}))
    await eventually(lambda: fake.containers.kept[UUID].reason == "asked")
    fake.containers.move(UUID, status=Status.STOPPED)
    assert (await asyncio.wait_for(asked, 30)).status_code == 202


@pytest.mark.parametrize(
    ("method", "path"), [("POST", f"{PATH}/{UUID}/stop"), ("DELETE", f"{PATH}/{UUID}")]
)
async def test_a_stop_and_a_delete_can_be_guarded(
    http: AsyncClient, method: str, path: str
) -> None:
    await run(http)
    stale = await http.request(method, path, headers={"If-Match": '"9"'})
    assert (stale.status_code, stale.json()["code"]) == (412, "stale_revision")
    assert (await http.request(method, path, headers={"If-Match": '"1"'})).status_code == 202


async def test_a_missing_container_is_404(http: AsyncClient) -> None:
    for method, path in [("GET", f"{PATH}/x"), ("DELETE", f"{PATH}/x"), ("POST", f"{PATH}/x/stop")]:
        assert (await http.request(method, path)).status_code == 404


async def test_a_deleted_container_can_be_deleted_again_but_not_stopped(
    fake: Front, http: AsyncClient
) -> None:
    await run(http)
    fake.containers.move(UUID, status=Status.DELETED)
    stopped = await http.post(f"{PATH}/{UUID}/stop")
    assert (stopped.status_code, stopped.json()["code"]) == (404, "not_found")
    assert (await http.delete(f"{PATH}/{UUID}")).status_code == 200


async def test_lists_can_be_narrowed(fake: Front, http: AsyncClient) -> None:
    await run(http)
    fake.containers.move(UUID, node="n1")
    await http.post(PATH, json=BODY)
    found = (await http.get(PATH, params={"node": "n1"})).json()["items"]
    assert [item["uuid"] for item in found] == [UUID]


@pytest.mark.parametrize("verb", ["start", "restart"])
async def test_a_start_and_a_restart_are_under_way_until_it_runs(
    fake: Front, http: AsyncClient, verb: str
) -> None:
    await run(http)
    asked = asyncio.create_task(http.post(f"{PATH}/{UUID}/{verb}", params={"wait": 5}))
    await eventually(lambda: fake.containers.kept[UUID].reason == "asked")
    fake.containers.move(UUID, status=Status.RUNNING, restart_at=made.AT)
    fake.containers.move(UUID, status=Status.RUNNING, restart_at=None)
    answer = await asyncio.wait_for(asked, 30)
    assert (answer.status_code, answer.json()["status"]) == (200, Status.RUNNING)
    fake.containers.move(UUID, restart_at=made.AT)
    assert (await http.post(f"{PATH}/{UUID}/{verb}")).status_code == 202
    assert (await http.post(f"{PATH}/{UUID}/{verb}", headers=bearer("viewer"))).status_code == 403


async def test_what_has_ended_holds_nothing_and_keeps_what_it_asked_for(
    fake: Front, http: AsyncClient
) -> None:
    await run(http)
    port = PortBinding(internal=80, host=32768, address="127.0.0.1")
    fake.containers.move(UUID, status=Status.RUNNING, ports=[port], gpus=["a"])
    up = (await http.get(f"{PATH}/{UUID}")).json()
    assert (len(up["ports"]), up["gpus"]) == (1, ["a"])
    for end in (Status.STOPPED, Status.FAILED):
        fake.containers.move(UUID, status=end)
        over = (await http.get(f"{PATH}/{UUID}")).json()
        assert (over["ports"], over["gpus"], over["spec"]) == ([], [], up["spec"])
