"""`/yard/v1/deployments` against a whole system: API, worker, agent and a real engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx
import pytest

from pipeline.adapters.engine.docker import DockerEngine
from tests.support.systems.deployed_yard import HEALTH, Load, Yard, deployed_yard, reachable
from tests.support.systems.services import Services
from tests.support.waiting import eventually

CALLS = 20
BAD_HEALTH = HEALTH | {"path": "/nothing", "start_period_s": 0.3}


@pytest.fixture(scope="module")
async def yard(
    tmp_path_factory: pytest.TempPathFactory,
    services: Services,
    mongo_url: str,
    registry_host: str,
    docker_host: str,
) -> AsyncIterator[Yard]:
    folder = tmp_path_factory.mktemp("deployments")
    async with deployed_yard(folder, services, mongo_url, registry_host, docker_host) as yard:
        yield yard


async def test_a_deployment_from_its_creation_to_its_end(yard: Yard) -> None:
    made = await yard.create("whole", 2)
    assert (made["status"], made["ready"], made["reason"]) == ("DEPLOYED", 2, None)
    replicas = await yard.replicas(made)
    for replica in replicas:
        port = replica["ports"][0]
        answer = await yard.system.http.get(f"http://{port['address']}:{port['host']}/")
        assert answer.status_code == 200
    path = f"/{made['uuid']}"
    more = await yard.done("POST", f"{path}/scale", json={"replicas": 3})
    assert (more["status"], more["ready"]) == ("DEPLOYED", 3)
    stopped = await yard.done("POST", f"{path}/stop")
    assert (stopped["status"], stopped["ready"]) == ("SCALED_DOWN", 0)
    assert await yard.replicas(made) == []
    await yard.deleted(made)
    assert (await yard.call("GET", path)).status_code == 404
    assert [each["held"] for each in await yard.system.nodes(yard.api)] == [[]]


async def test_a_replica_that_dies_for_good_is_made_anew(yard: Yard) -> None:
    made = await yard.create("mended")
    (replica,) = await yard.replicas(made)
    async with DockerEngine.open(yard.system.docker_host) as engine:
        await engine.remove(replica["engine_id"])
    path = f"/deployments/{made['uuid']}"
    again = await yard.system.until(
        yard.api, path, lambda now: now["status"] == "DEPLOYED" and now["slots"][0]["number"] == 2
    )
    assert again["ready"] == 1
    await yard.deleted(made)


async def test_an_edit_that_never_becomes_healthy_is_rolled_back(yard: Yard) -> None:
    made = await yard.create("edited", gpus=1)
    (before,) = await yard.replicas(made)
    template = {"image": yard.image, "gpus": 1, "health": BAD_HEALTH, "env": {"VERSION": "2"}}
    edit = {"template": template, "rollout_timeout_s": 10}
    back = await yard.done("PATCH", f"/{made['uuid']}", json=edit)
    assert (back["status"], back["template"]["generation"]) == ("DEPLOYED", 1)
    assert back["reason"].startswith("rolled back from generation 2 to 1: ")

    async def only_the_first_is_left() -> bool:
        return [each["uuid"] for each in await yard.replicas(made)] == [before["uuid"]]

    await eventually(only_the_first_is_left)
    await yard.deleted(made)


async def test_clients_of_imported_containers_are_told_how_it_is_in_their_words(yard: Yard) -> None:
    slow = HEALTH | {"interval_s": 1.5}
    made = (await yard.call("POST", json=yard.spec("told", 2, health=slow))).json()

    async def health() -> dict[str, Any]:
        path = f"/deployments/model-deployment/fetch-status/{made['uuid']}/"
        answer = await yard.system.http.get(f"http://127.0.0.1:{yard.api.port}{path}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def is_told(word: str, ready: int, not_ready: int, severity: str | None = None) -> None:
        async def is_so() -> bool:
            found = await health()
            severities = {each["severity"] for each in found["messages"]}
            return (
                found["data"] == word
                and found["pods"] == {"ready": ready, "not_ready": not_ready}
                and (severity is None or severities == {severity})
            )

        await eventually(is_so)

    await is_told("Initializing", 0, 2)
    await is_told("Healthy", 2, 0)
    for ready, word, severity in ((1, "Degraded", "warning"), (0, "Unhealthy", "error")):
        replica = (await yard.replicas(made))[ready]
        path = f"/containers/{replica['uuid']}/exec"
        spoil = {"command": ["rm", "/www/index.html"]}
        assert (await yard.system.call(yard.api, "POST", path, json=spoil)).is_success
        await is_told(word, ready, 2 - ready, severity)
    await yard.done("POST", f"/{made['uuid']}/stop")
    assert await health() == {
        "data": "SCALED_DOWN",
        "messages": [],
        "pods": {"ready": 0, "not_ready": 0},
    }
    await yard.call("PATCH", f"/{made['uuid']}", json={"min_replicas": 1, "max_replicas": 1})
    await yard.call("POST", f"/{made['uuid']}/start")
    await is_told("Progressing", 0, 1)
    await yard.deleted(made)


async def test_what_cannot_be_is_refused_in_words(yard: Yard) -> None:
    made = await yard.create("refused")
    spec = {"name": "refused", "template": {"image": yard.image}}
    taken = await yard.call("POST", json=spec)
    assert (taken.status_code, taken.json()["code"]) == (409, "already_exists")
    path = f"/{made['uuid']}"
    for method, part, body, status in (
        ("POST", "/scale", {"replicas": 9}, 422),
        ("POST", "/rollback", {"generation": 7}, 404),
        ("PATCH", "", {"min_replicas": 4}, 422),
        ("PATCH", "", {"template": {"image": "nothing"}}, 404),
        ("PATCH", "", {"replicas": 2}, 422),
    ):
        answer = await yard.call(method, path + part, json=body)
        assert answer.status_code == status, answer.text
    stale = await yard.call("POST", f"{path}/stop", headers={"If-Match": '"1"'})
    assert stale.status_code == 412
    await yard.deleted(made)


async def test_two_hundred_calls_at_once_wake_one_replica_which_rests_after_them(
    yard: Yard,
) -> None:
    made = await yard.create("resting", 0, idle_s=2)
    assert (made["status"], made["slots"]) == ("SCALED_DOWN", [])
    limits = httpx.Limits(max_connections=None)
    headers = yard.system.http.headers
    async with httpx.AsyncClient(headers=headers, timeout=90, limits=limits) as http:
        await yard.known(made)
        answers = await asyncio.gather(*(http.get(made["endpoint"]) for _ in range(200)))
        assert {answer.status_code for answer in answers} == {200}
    rested = await yard.system.until(
        yard.api,
        f"/deployments/{made['uuid']}",
        lambda now: now["status"] == "SCALED_DOWN" and now["reason"] is None,
    )
    assert (rested["replicas"], rested["slots"], rested["next_number"]) == (0, [], 2)
    await yard.deleted(made)


async def test_a_call_that_no_node_can_serve_is_told_why(yard: Yard) -> None:
    made = await yard.create("too-large", 0, gpus=8)
    await yard.known(made)
    refused = await yard.system.http.get(made["endpoint"], timeout=90)
    assert (refused.status_code, refused.json()["code"]) == (503, "no_replica")
    assert refused.headers["retry-after"] == "5"
    assert "node-a" in refused.json()["nodes"], refused.text
    await yard.deleted(made)


async def test_no_call_fails_while_an_edit_rolls(yard: Yard) -> None:
    made = await yard.create("rolled", 2)
    await reachable(yard, made["endpoint"])
    async with Load(yard, made["endpoint"]) as load:
        template = {"image": yard.image, "health": HEALTH, "env": {"VERSION": "2"}}
        rolled = await yard.done("PATCH", f"/{made['uuid']}", json={"template": template})
        assert (rolled["status"], rolled["ready"]) == ("DEPLOYED", 2)
        ids = {slot["number"] for slot in rolled["slots"]}
        await eventually(lambda: load.answered > 100)
    assert load.failed == []
    assert ids.isdisjoint({1, 2})
    await yard.deleted(made)


async def test_a_replica_killed_under_load_costs_at_most_what_is_under_way_on_it(
    yard: Yard,
) -> None:
    made = await yard.create("killed", 2)
    await reachable(yard, made["endpoint"])
    first, _ = await yard.replicas(made)
    async with Load(yard, made["endpoint"]) as load:
        await eventually(lambda: load.answered > 20)
        async with DockerEngine.open(yard.system.docker_host) as engine:
            under_way = load.unanswered
            await engine.stop(first["engine_id"], grace_s=0)
            under_way = max(under_way, load.unanswered)
        answered = load.answered
        await eventually(lambda: load.answered > answered + 50)
    assert len(load.failed) <= max(2, under_way), load.failed
    await yard.deleted(made)


async def test_a_gateway_killed_under_load_costs_what_is_under_way_and_begins_with_what_it_knew(
    yard: Yard,
) -> None:
    """And none while only the process beside it is away."""
    made = await yard.create("begun-again", 1)
    await reachable(yard, made["endpoint"])

    async def is_answered() -> None:
        answered = load.answered
        await eventually(lambda: load.answered > answered + 30)

    async with Load(yard, made["endpoint"]) as load:
        await yard.follower.kill()
        more = await yard.done("POST", f"/{made['uuid']}/scale", json={"replicas": 2})
        assert more["ready"] == 2
        await is_answered()
        assert (load.failed, await yard.servers(made)) == ([], 1)
        await yard.gateway.kill()
        at_most = load.unanswered
        await yard.gateway.start()
        await is_answered()
        assert len(load.cut) <= at_most, load.cut
        failed = len(load.failed)
        await yard.follower.start()

        async def is_in_step() -> bool:
            return await yard.servers(made) == 2

        await eventually(is_in_step)
        await is_answered()
    assert load.failed[failed:] == []
    await yard.deleted(made)


async def test_calls_that_wait_at_a_server_that_dies_are_told_and_another_one_goes_on(
    yard: Yard,
) -> None:
    other = await yard.system.api(yard.spare)
    holder = await yard.create("holder", 1, gpus=2)
    made = await yard.create("taken-over", 0, gpus=2, idle_s=2)
    await yard.known(made)
    path = f"/deployments/{made['uuid']}"

    async def call() -> httpx.Response:
        return await http.get(made["endpoint"])

    async def all_wait() -> bool:
        return await yard.waiting() == CALLS

    async with httpx.AsyncClient(headers=yard.system.http.headers, timeout=90) as http:
        calls = [asyncio.create_task(call()) for _ in range(CALLS)]
        await eventually(all_wait)
        await other.kill()
        await eventually(lambda: sum(each.done() for each in calls) == CALLS // 2)
        told = [each.result() for each in calls if each.done()]
        assert {each.status_code for each in told} == {502}
        assert {(each.json()["code"], each.headers["retry-after"]) for each in told} == {
            ("unreachable", "5")
        }
        calls = [each for each in calls if not each.done()]
        calls += [asyncio.create_task(call()) for _ in told]
        await eventually(all_wait)
        await yard.deleted(holder)
        assert {each.status_code for each in await asyncio.gather(*calls)} == {200}
    rested = await yard.system.until(
        yard.api, path, lambda now: now["status"] == "SCALED_DOWN" and now["reason"] is None
    )
    assert (rested["slots"], rested["next_number"]) == ([], 2), "one replica was made"
    await yard.deleted(made)


async def test_replicas_follow_the_calls_that_the_gateway_counts(yard: Yard) -> None:
    """And what the agent tells of GPUs: without a word of them nothing would be ended."""
    made = await yard.create("scaled", gpus=1)
    rule = {
        "targets": [{"metric": "throughput", "value": 10}, {"metric": "gpu", "value": 50}],
        "scale_down": {"stabilization_s": 3},
    }

    async def has(replicas: int) -> bool:
        seen = (await yard.call("GET", f"/{made['uuid']}")).json()
        return bool((seen["replicas"], seen["ready"]) == (replicas, replicas))

    await reachable(yard, made["endpoint"])
    edit = {"max_replicas": 2, "autoscale": rule}
    assert (await yard.call("PATCH", f"/{made['uuid']}", json=edit)).status_code in (200, 202)
    async with Load(yard, made["endpoint"]) as load:
        await eventually(partial(has, 2))
        look = (await yard.call("GET", f"/{made['uuid']}/scaling")).json()
        assert {each["metric"]: each["replicas"] is not None for each in look["figures"]} == {
            "throughput": True,
            "gpu": True,
        }
    assert load.failed == []
    await eventually(partial(has, 1), timeout_s=60)
    ended = (await yard.call("GET", f"/{made['uuid']}")).json()
    assert ended["scaling"]["why"].startswith("throughput is ")
    assert [(each["before"], each["after"]) for each in ended["scalings"]] == [(1, 2), (2, 1)]
    await yard.deleted(made)
