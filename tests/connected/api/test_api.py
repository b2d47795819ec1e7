"""Real API processes over a real store and broker. No worker runs: tests play that part."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from functools import partial

import httpx
import pytest

from pipeline import topology
from pipeline.adapters.bus.client import Bus
from pipeline.adapters.store.store import Store
from pipeline.records.idempotency import id_for
from pipeline.records.kernel import Change, Records
from pipeline.records.messages import Outbox, event
from pipeline.stack.pieces.mongod import MongodPiece
from pipeline.stack.pieces.nats import NatsPiece
from schemas.image import Image
from schemas.states import ImageStatus
from tests.support.http.api_process import (
    ORG,
    PASSWORD,
    ROOT,
    ApiProcess,
    api_process,
    environment,
    log_in,
    settings,
)
from tests.support.systems.services import Services
from tests.support.waiting import eventually

IMAGES = "/yard/v1/images"
BODY = {"reference": "127.0.0.1:5000/team/model:1"}


@pytest.fixture(scope="module")
async def api(services: Services, mongo_url: str) -> AsyncIterator[ApiProcess]:
    """Shared by the tests that leave it as it is."""
    nats = services.nats()
    await nats.start()
    async with api_process(settings(nats.url, mongo_url)) as api:
        yield api
    await nats.stop()


@pytest.fixture
async def own_api(own_nats: NatsPiece, mongo_url: str) -> AsyncIterator[ApiProcess]:
    async with api_process(settings(own_nats.url, mongo_url)) as api:
        yield api


@pytest.fixture
async def own_http(own_api: ApiProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=own_api.url, timeout=30) as client:
        await log_in(client)
        yield client


@pytest.fixture
async def http(api: ApiProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=api.url, timeout=30) as client:
        await log_in(client)
        yield client


@pytest.fixture
async def store(api: ApiProcess) -> AsyncIterator[Store]:
    async with Store.open(api.settings.mongo_url, api.settings.mongo_database) as store:
        yield store


@pytest.fixture
async def bus(api: ApiProcess) -> AsyncIterator[Bus]:
    async with Bus.open(api.settings.nats_url, name="test") as bus:
        yield bus


async def move(store: Store, bus: Bus, uuid: str, status: ImageStatus) -> None:
    """What a worker does with an image, seen from outside."""
    image = await store.get(Image, uuid, org=ORG)
    change = Change(status=status, send=[event(status.lower())])
    async with Outbox(store, bus) as outbox:
        await Records(store, outbox).commit(image, change, actor="test")


async def is_ready(http: httpx.AsyncClient) -> bool:
    return (await http.get("/readyz")).status_code == 200


async def commands(bus: Bus, uuid: str) -> list[str]:
    """Subjects of what was asked about a record."""
    batch = await bus.read_batch(topology.COMMANDS.name, after=0, subject="yard.cmd.>")
    return [message.subject for message in batch.messages if uuid.encode() in message.data]


async def test_an_accepted_image_is_stored_and_its_command_is_durable(
    http: httpx.AsyncClient, store: Store, bus: Bus
) -> None:
    answer = await http.post(IMAGES, json=BODY)
    assert answer.status_code == 202
    image = await store.get(Image, answer.json()["uuid"], org=ORG)
    assert image.created_by is not None
    assert await commands(bus, image.uuid) == [f"yard.cmd.{ORG}.image.validate"]


async def test_many_identical_requests_at_once_are_one(http: httpx.AsyncClient, bus: Bus) -> None:
    headers = {"Idempotency-Key": "the-one"}
    answers = await asyncio.gather(
        *(http.post(IMAGES, json=BODY, headers=headers) for _ in range(20))
    )
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["uuid"] for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert len(await commands(bus, answers[0].json()["uuid"])) == 1


async def test_a_key_is_remembered_across_a_restart(
    own_api: ApiProcess, own_http: httpx.AsyncClient
) -> None:
    headers = {"Idempotency-Key": "the-one"}
    first = await own_http.post(IMAGES, json=BODY, headers=headers)
    await own_api.stop(signal.SIGKILL)
    await own_api.start()
    again = await own_http.post(IMAGES, json=BODY, headers=headers)
    other = await own_http.post(IMAGES, json={"reference": "r.test/x:2"}, headers=headers)
    assert again.json()["uuid"] == first.json()["uuid"]
    assert again.headers["idempotency-replayed"] == "true"
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


@pytest.mark.parametrize("status", [ImageStatus.READY, ImageStatus.FAILED])
async def test_a_call_waits_for_what_another_process_does(
    http: httpx.AsyncClient, store: Store, bus: Bus, status: ImageStatus
) -> None:
    uuid = id_for(ORG, "image", status)
    asked = asyncio.create_task(
        http.post(IMAGES, json=BODY, headers={"Idempotency-Key": status}, params={"wait": 20})
    )

    async def is_stored() -> bool:
        return await store.count(Image, org=ORG, where={"_id": uuid}) == 1

    await eventually(is_stored)
    await move(store, bus, uuid, ImageStatus.VALIDATING)
    await move(store, bus, uuid, status)
    answer = await asyncio.wait_for(asked, 10)
    assert (answer.status_code, answer.json()["status"]) == (201, status)


async def test_pages_hold_every_record_once_while_others_come(http: httpx.AsyncClient) -> None:
    made = [(await http.post(IMAGES, json=BODY)).json()["uuid"] for _ in range(25)]
    seen: list[str] = []
    url = f"{IMAGES}?limit=10"
    while url:
        answer = await http.get(url)
        seen += [item["uuid"] for item in answer.json()["items"]]
        url = answer.links.get("next", {}).get("url", "")
        await http.post(IMAGES, json=BODY)
    assert seen[:25] == made[::-1]
    assert len(seen) == len(set(seen))


async def test_a_cursor_of_somebody_else_is_refused(http: httpx.AsyncClient) -> None:
    answer = await http.get(IMAGES, params={"cursor": "rubbish"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "cursor")


async def test_a_stale_delete_is_refused(http: httpx.AsyncClient, store: Store, bus: Bus) -> None:
    made = await http.post(IMAGES, json=BODY)
    path = made.headers["location"]
    await move(store, bus, made.json()["uuid"], ImageStatus.VALIDATING)
    stale = await http.delete(path, headers={"If-Match": made.headers["etag"]})
    assert (stale.status_code, stale.json()["code"]) == (412, "stale_revision")
    fresh = (await http.get(path)).headers["etag"]
    assert (await http.delete(path, headers={"If-Match": fresh})).status_code == 200
    assert (await http.get(path)).status_code == 404


async def test_a_container_of_an_image_that_is_not_ready_is_a_conflict(
    http: httpx.AsyncClient, store: Store, bus: Bus
) -> None:
    image = (await http.post(IMAGES, json=BODY)).json()
    answer = await http.post("/yard/v1/containers", json={"image": image["uuid"]})
    assert (answer.status_code, answer.json()["code"]) == (409, "not_ready")
    await move(store, bus, image["uuid"], ImageStatus.VALIDATING)
    await move(store, bus, image["uuid"], ImageStatus.READY)
    answer = await http.post("/yard/v1/containers", json={"image": image["uuid"]})
    assert (answer.status_code, answer.json()["status"]) == (202, "REQUESTED")
    gone = await http.delete(answer.headers["location"], params={"wait": 5})
    assert (gone.status_code, gone.json()["status"]) == (200, "DELETED")


async def test_tokens_open_what_their_role_may_do_until_they_are_revoked(
    http: httpx.AsyncClient,
) -> None:
    body = {"name": "ci", "role": "viewer"}
    once = {"Idempotency-Key": "one"}
    made = await http.post("/yard/v1/tokens", json=body, headers=once)
    assert made.status_code == 201
    again = await http.post("/yard/v1/tokens", json=body, headers=once)
    assert (again.status_code, again.json()) == (201, made.json())
    assert again.headers["idempotency-replayed"] == "true"
    [listed] = (await http.get("/yard/v1/tokens")).json()["items"]
    assert (listed["uuid"], listed["name"]) == (made.json()["uuid"], "ci")
    assert made.json()["token"] not in str(listed)
    assert "secret_hash" not in made.text
    key = {"Authorization": f"Bearer {made.json()['token']}"}
    assert (await http.get(IMAGES, headers=key)).status_code == 200
    assert (await http.post(IMAGES, json=BODY, headers=key)).status_code == 403
    assert (await http.delete(made.headers["location"])).status_code == 204
    assert (await http.get(IMAGES, headers=key)).status_code == 401


async def test_a_session_is_refreshed_and_ended(http: httpx.AsyncClient) -> None:
    login = {"username": "admin", "password": PASSWORD, "org": ORG}
    session = (await http.post("/yard/v1/login", json=login)).json()
    assert (session["org"], session["role"]) == (ORG, "admin")
    fresh = await http.post("/yard/v1/refresh", json={"refresh": session["refresh"]})
    assert fresh.status_code == 200
    bearer = {"Authorization": f"Bearer {fresh.json()['access']}"}
    assert (await http.get(IMAGES, headers=bearer)).status_code == 200
    gone = await http.post("/yard/v1/logout", json={"token": session["refresh"]})
    assert gone.status_code == 204
    assert (await http.get(IMAGES, headers=bearer)).status_code == 401
    again = await http.post("/yard/v1/refresh", json={"refresh": session["refresh"]})
    assert again.status_code == 401


async def test_a_wrong_password_is_refused(http: httpx.AsyncClient) -> None:
    body = {"username": "somebody", "password": "wrong"}
    answer = await http.post("/yard/v1/login", json=body)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


async def test_a_broker_that_is_away_costs_no_accepted_request(
    own_nats: NatsPiece, own_api: ApiProcess, own_http: httpx.AsyncClient
) -> None:
    await own_nats.kill()
    answer = await own_http.post(IMAGES, json=BODY)
    assert answer.status_code == 202
    async with Store.open(own_api.settings.mongo_url, own_api.settings.mongo_database) as store:
        image = await store.get(Image, answer.json()["uuid"], org=ORG)
    assert len(image.outbox) == 2, "the sweep of a worker will publish them"
    ready = await own_http.get("/readyz")
    assert ready.status_code == 503
    assert ready.json()["dependencies"]["bus"]["status"] == "failed"
    await own_nats.start()
    await eventually(partial(is_ready, own_http))


async def test_a_missing_stream_makes_it_not_ready(http: httpx.AsyncClient, bus: Bus) -> None:
    await bus.client.jetstream().delete_stream(topology.DEAD.name)
    ready = await http.get("/readyz")
    await bus.prepare()
    assert ready.status_code == 503
    assert topology.DEAD.name in ready.json()["dependencies"]["streams"]["detail"]
    assert await is_ready(http)


async def test_a_store_that_is_away_is_503_and_comes_back(
    own_nats: NatsPiece, own_mongod: MongodPiece
) -> None:
    async with (
        api_process(settings(own_nats.url, own_mongod.url)) as api,
        httpx.AsyncClient(base_url=api.url, timeout=30) as http,
    ):
        await log_in(http)
        made = await http.post(IMAGES, json=BODY)
        await own_mongod.kill()
        answer = await http.get(IMAGES)
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
        assert "mongodb://" not in answer.text
        assert "retry-after" in answer.headers
        assert (await http.get("/healthz")).status_code == 200
        await own_mongod.start()
        await eventually(partial(is_ready, http))
        assert (await http.get(made.headers["location"])).status_code == 200


async def test_an_idle_process_is_small(api: ApiProcess, http: httpx.AsyncClient) -> None:
    await http.get("/openapi.json")
    assert api.rss_mib < 120


async def test_a_wrong_setting_ends_the_process_with_a_reason(
    own_nats: NatsPiece, mongo_url: str
) -> None:
    env = environment(settings(own_nats.url, mongo_url)) | {"MODELYARD_SIGNING_KEY": "short"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "api", cwd=ROOT, env=env, stderr=asyncio.subprocess.PIPE
    )
    _, stderr = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode not in (0, None)
    assert b"MODELYARD_SIGNING_KEY" in stderr
