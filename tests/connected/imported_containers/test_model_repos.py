"""`/models/client/model-repos/` against real registries."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from api.imported_containers.model_repos import COUNT
from pipeline.records.kernel import Change
from pipeline.settings import Settings
from schemas.access import Principal, Role
from schemas.image import Image
from schemas.states import ImageStatus
from tests.support.archives.image_delivery import push
from tests.support.archives.images import busybox_image
from tests.support.events import stored_events
from tests.support.registries.locked_registry import PASSWORD, USER
from tests.support.registries.registry_door import Door, anonymous, client, kinds
from tests.support.waiting import eventually

REPOS = "/models/client/model-repos/"
UNKNOWN = "4080f3b5-4d6e-4c36-a6eb-d6f0cd3b0e6d"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
CALLS = [("POST", REPOS), ("GET", REPOS), ("DELETE", REPOS)]


async def call(door: Door, method: str, **options: Any) -> httpx.Response:
    answer = await door.http.request(method, REPOS, **options)
    assert answer.status_code < 500, answer.text
    return answer


async def opened(door: Door, host: str, **data: str) -> str:
    """A secret that opens the registry."""
    given = {"username": USER, "password": PASSWORD} | data
    return await door.secret(host, f"s{uuid.uuid4().hex[:8]}", **given)


async def body(door: Door, host: str, **given: Any) -> dict[str, Any]:
    secret = given.pop("source_secret") if "source_secret" in given else await opened(door, host)
    return {
        "name": "my-inference-server",
        "runtime_gpus": 1,
        "docker_tag": "1",
        "registry_path": "team/model",
        "source_secret": secret,
    } | given


async def create(door: Door, host: str, **given: Any) -> dict[str, Any]:
    answer = await call(door, "POST", json=await body(door, host, **given))
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def record(door: Door, id: str) -> Image | None:
    return await door.services.records.store.find_by_id(Image, id, org=door.org)


@pytest.fixture
def brief(door: Door) -> Iterator[Settings]:
    """The window in which a verdict is waited for, made short."""
    settings = door.services.settings
    before, settings.verdict_wait_s = settings.verdict_wait_s, 0.3
    yield settings
    settings.verdict_wait_s = before


@asynccontextmanager
async def holding(host: str) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """The registry by another port, where nothing is answered before the gate is open."""
    gate = asyncio.Event()
    name, _, port = host.rpartition(":")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        far, farther = await asyncio.open_connection(name, int(port))
        await asyncio.gather(pipe(reader, farther), pipe(far, writer))

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65536):
            writer.write(chunk)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", gate
    server.close()


async def test_an_image_is_imported_read_and_deleted(door: Door, locked_host: str) -> None:
    env = {"MODEL_PATH": "/models/llama-7b", "MAX_BATCH_SIZE": 32, "FAST": True, "T": 0.5}
    sent = await body(door, locked_host, env=env, org=door.org, colour="red", ports=None)
    answer = await call(door, "POST", json=sent)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert TIME.fullmatch(made["created_at"])
    assert TIME.fullmatch(made["updated_at"])
    secret = made["secrets"]["source_secret"]
    assert made == {
        "uuid": str(uuid.UUID(made["uuid"])),
        "name": "my-inference-server",
        "source_type": "registry",
        "source_url": "team/model:1",
        "is_byom": True,
        "accelerator": None,
        "runtime_gpus": 1,
        "byom": {"image": "team/model:1", "registry": "team/model", "tag": "1"},
        "secrets": {"source_secret": {"uuid": sent["source_secret"], "name": secret["name"]}},
        "status": "SUCCESS",
        "status_description": None,
        "model_type": "byom",
        "env": env,
        "created_at": made["created_at"],
        "updated_at": made["updated_at"],
        "org_id": await door.org_uuid(),
    }
    assert [type(value) for value in made["env"].values()] == [str, int, bool, float]
    image = await record(door, made["uuid"])
    assert image is not None
    assert (image.status, (image.pinned or "").count("@sha256:")) == (ImageStatus.READY, 1)
    assert (await call(door, "GET", params={"model_id": made["uuid"]})).json() == made
    assert (await call(door, "GET")).json() == [made]
    used = await door.http.get(f"/accounts/secrets/{sent['source_secret']}/")
    assert used.json()["reference_count"] == 1
    events = [event async for event in stored_events(door.services.bus, door.org)]
    ours = [event for event in events if made["uuid"] in event.subject]
    assert kinds(ours) == ["created", "validating", "ready"]
    gone = await call(door, "DELETE", params={"model_id": made["uuid"]})
    assert (gone.status_code, gone.json()) == (200, {"detail": "Model deleted successfully."})
    again = await call(door, "DELETE", params={"model_id": made["uuid"]})
    assert (again.status_code, again.json()) == (400, {"detail": "Model is already deleted."})
    missing = await call(door, "GET", params={"model_id": made["uuid"]})
    assert (missing.status_code, missing.json()) == (404, {"detail": "Model not found."})
    assert (await call(door, "GET")).json() == []
    (deleted,) = (await call(door, "GET", params={"status": "deleted"})).json()
    assert (deleted["uuid"], deleted["status"]) == (made["uuid"], "DELETED")
    assert (await call(door, "POST", json=sent)).status_code == 201


async def test_what_cannot_be_proved_is_refused_and_leaves_nothing(
    door: Door, locked_host: str
) -> None:
    wrong = await opened(door, locked_host, password="no")
    away = await opened(door, "127.0.0.1:9")
    forbidden = await opened(door, "169.254.169.254")
    cases = [
        {"registry_path": "team/absent"},
        {"docker_tag": "2"},
        {"source_secret": wrong},
        {"source_secret": away},
        {"source_secret": forbidden},
        {"registry_path": "no.such.host.invalid/team/model"},
    ]
    for case in cases:
        sent = await body(door, locked_host, **case)
        answer = await call(door, "POST", json=sent)
        told = "Could not validate Docker Image: "
        told += f"{sent['registry_path']}:{sent['docker_tag']} against the provided secrets"
        assert (answer.status_code, answer.json()) == (
            400,
            {"detail": {"non_field_errors": [told]}},
        ), case
    for params in ({}, {"status": "FAILED"}, {"status": "DELETED"}):
        assert (await call(door, "GET", params=params)).json() == []
    # Denied and absent stay apart in what is told of them.
    failed = [
        event
        async for event in stored_events(door.services.bus, door.org)
        if ".image." in event.subject and event.subject.endswith(".failed")
    ]
    reasons = [str(event.data) for event in failed]
    assert ["refuses the secret" in each for each in reasons].count(True) == 1
    assert (await create(door, locked_host))["status"] == "SUCCESS"


async def test_a_verdict_that_comes_beside_the_withdrawal_counts(
    door: Door, locked_host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, records = door.services.images.service, door.services.records
    withdraw = images.withdraw

    async def late(caller: Principal, uuid: str) -> Image:
        image = await images.get(caller, uuid)
        await records.amend(image, lambda image, at: Change(status=ImageStatus.READY))
        return await withdraw(caller, uuid)

    monkeypatch.setattr(images, "withdraw", late)
    away = await opened(door, "127.0.0.1:9")
    made = await create(door, locked_host, source_secret=away)
    assert made["status"] == "SUCCESS"
    assert (await call(door, "GET")).json() == [made]


async def test_one_that_is_still_looked_at_is_pending_and_settles_later(
    door: Door, locked_host: str, brief: Settings
) -> None:
    async with holding(locked_host) as (host, gate):
        secret = await opened(door, host)
        there = await create(door, host, name="there", source_secret=secret)
        absent = await create(door, host, name="absent", source_secret=secret, docker_tag="2")
        assert (there["status"], there["status_description"]) == ("PENDING", None)
        listed = (await call(door, "GET", params={"status": "Pending"})).json()
        assert [each["uuid"] for each in listed] == [absent["uuid"], there["uuid"]]
        answer = await call(door, "DELETE", params={"model_id": there["uuid"]})
        told = "This model has pending operations. Wait for them to finish before deleting the"
        assert (answer.status_code, answer.json()) == (400, {"detail": f"{told} model."})
        gate.set()

        async def are_settled() -> bool:
            found = (await call(door, "GET", params={"status": "PENDING"})).json()
            return found == []

        await eventually(are_settled)
    found = {each["name"]: each for each in (await call(door, "GET")).json()}
    assert (found["there"]["status"], found["absent"]["status"]) == ("SUCCESS", "FAILED")
    assert "2" in found["absent"]["status_description"]
    for each in (there, absent):
        answer = await call(door, "DELETE", params={"model_id": each["uuid"]})
        assert answer.status_code == 200


async def test_a_name_is_taken_once_also_by_requests_that_race(
    door: Door, other: Door, locked_host: str
) -> None:
    sent = await body(door, locked_host)
    answers = await asyncio.gather(*(call(door, "POST", json=sent) for _ in range(4)))
    assert sorted(each.status_code for each in answers) == [201, 400, 400, 400]
    told = "Model with this name already exists for this organization."
    refused = next(each for each in answers if each.status_code == 400)
    assert refused.json() == {"detail": {"non_field_errors": [told]}}
    assert (await call(door, "POST", json=sent | {"name": " my-inference-server "})).json() == {
        "detail": {"non_field_errors": [told]}
    }
    assert (await create(other, locked_host))["name"] == "my-inference-server"
    foreign = {"model_id": (await call(door, "GET")).json()[0]["uuid"]}
    assert (await call(other, "GET", params=foreign)).status_code == 404
    assert (await call(other, "DELETE", params=foreign)).status_code == 404


async def test_where_an_image_lies_follows_from_path_secret_and_source_type(
    door: Door, locked_host: str, registry_host: str
) -> None:
    push(busybox_image(), registry_host, "team/open", "1")
    settings = door.services.settings
    before, settings.docker_hub_registry = settings.docker_hub_registry, registry_host
    data = {"username": USER, "token": PASSWORD, "server": locked_host}
    try:
        public = await create(
            door,
            locked_host,
            name="public",
            registry_path="team/open",
            source_type="Docker_Hub",
            source_secret="",
        )
    finally:
        settings.docker_hub_registry = before
    assert public["secrets"] == {"source_secret": None}
    assert public["source_type"] == "docker_hub"
    # The secret is for another host: it is asked without one.
    path = f"{registry_host}/team/open"
    named = await create(door, locked_host, name="named", registry_path=path)
    assert named["byom"] == {"image": f"{path}:1", "registry": path, "tag": "1"}
    for kind in ("docker_hub", "depot"):
        made = await door.http.post(
            "/accounts/secrets/", json={"secret_type": kind, "name": kind, "data": data}
        )
        repo = await create(door, locked_host, name=kind, source_secret=made.json()["uuid"])
        assert repo["source_type"] == kind


async def test_pages_order_and_filters(door: Door, locked_host: str) -> None:
    secret = await opened(door, locked_host)
    names = ["alpha", "Beta.x", "beta", "gamma", "delta", "epsilon"]
    for name in names:
        await create(door, locked_host, name=name, source_secret=secret)

    async def listed(**params: Any) -> tuple[list[str], str]:
        answer = await call(door, "GET", params=params)
        assert answer.status_code == 200, answer.text
        return [each["name"] for each in answer.json()], answer.headers["X-Total-Count"]

    newest = names[::-1]
    assert await listed() == (newest[:COUNT], "6")
    assert await listed(count=1000, offset=0, model_id="") == (newest, "6")
    assert await listed(count=2, offset=1) == (newest[1:3], "6")
    assert await listed(offset=6) == ([], "6")
    assert await listed(offset=10**30) == ([], "6")
    assert await listed(count=0) == ([], "6")
    assert await listed(ordering="asc", count=2) == (names[:2], "6")
    assert await listed(ordering="name", count=2) == (newest[:2], "6")
    assert await listed(name="BETA") == (["beta", "Beta.x"], "2")
    assert await listed(name="beta.") == (["Beta.x"], "1")
    assert await listed(name="\0") == ([], "0")
    assert await listed(status="success", count=1) == (newest[:1], "6")
    for nothing in ({"status": "FAILED"}, {"status": "x"}, {"model_type": "platform"}):
        assert await listed(**nothing) == ([], "0")
    assert await listed(model_type="BYOM", count=1) == (newest[:1], "6")
    image = await record(door, (await call(door, "GET")).json()[0]["uuid"])
    assert image is not None
    assert await listed(created_by=str(image.created_by).upper(), count=1) == (newest[:1], "6")
    assert await listed(created_by="nobody") == ([], "0")
    for name in ("count", "offset"):
        for value in ("-1", "x", "1.5", ""):
            answer = await call(door, "GET", params={name: value})
            assert (answer.status_code, list(answer.json()["detail"])) == (400, [name])


async def test_which_one_is_deleted_has_to_be_said(door: Door, locked_host: str) -> None:
    for params in ({}, {"model_id": ""}):
        answer = await call(door, "DELETE", params=params)
        assert (answer.status_code, answer.json()) == (
            400,
            {"detail": "model_id query param is required."},
        )
    for unknown in (UNKNOWN, "x", "\0"):
        for method in ("GET", "DELETE"):
            answer = await call(door, method, params={"model_id": unknown})
            assert (answer.status_code, answer.json()) == (404, {"detail": "Model not found."})
    id = (await create(door, locked_host))["uuid"]
    for spelled in (id.upper(), id.replace("-", ""), "{" + id + "}"):
        assert (await call(door, "GET", params={"model_id": spelled})).json()["uuid"] == id


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_tokens_roles_and_organisations_are_looked_at_in_this_order(
    app: FastAPI, door: Door, method: str, path: str
) -> None:
    async with anonymous(app) as http:
        answer = await http.request(method, path, content=b"{")
        told = "Authentication credentials were not provided."
        assert (answer.status_code, answer.json()) == (401, {"detail": told})
        http.headers["Authorization"] = "Bearer nonsense"
        answer = await http.request(method, path)
        assert (answer.status_code, answer.json()) == (401, {"detail": "Invalid token."})
    denied = {"detail": "You do not have permission to perform this action."}
    foreign = await call(door, method, params={"org": "other"}, json={})
    assert (foreign.status_code, foreign.json()) == (403, denied)
    async with await client(app, door.org, Role.VIEWER) as http:
        answer = await http.request(method, path, content=b"{")
        assert answer.status_code == (200 if method == "GET" else 403)
    if method == "POST":
        for sent, told in ((b"{", "JSON parse error"), (b"[]", None)):
            answer = await call(door, method, content=sent)
            no_object = {"non_field_errors": ["Invalid data. Expected an object."]}
            assert (answer.status_code, answer.json()) == (400, {"detail": told or no_object})
        answer = await call(door, method, json={"org_id": "other"})
        assert (answer.status_code, answer.json()) == (403, denied)
        assert (await call(door, method, content=b"x" * (1024 * 1024 + 1))).status_code == 413
    for wrong, status in (("PUT", 405), ("GET", 404)):
        answer = await door.http.request(wrong, REPOS if status == 405 else REPOS[:-1])
        assert (answer.status_code, set(answer.json())) == (status, {"detail"})


async def test_a_viewer_does_not_see_values_of_an_environment(
    app: FastAPI, door: Door, locked_host: str
) -> None:
    made = await create(door, locked_host, env={"KEY": "hidden-value"})
    async with await client(app, door.org, Role.VIEWER) as http:
        for path in (REPOS, f"/yard/v1/images/{made['uuid']}"):
            answer = await http.get(path)
            assert answer.status_code == 200
            assert "hidden-value" not in answer.text
