"""A password goes to its registry and nowhere else: not into logs, events, records, traces, metrics
or answers."""

from __future__ import annotations

import base64
import json
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from bson import json_util
from motor.motor_asyncio import AsyncIOMotorClient

from pipeline import topology
from pipeline.adapters.bus.client import Bus
from pipeline.records.kernel import now
from pipeline.stack.pieces.app import ApiPiece
from pipeline.stack.pieces.nats import NatsPiece
from schemas.message import Message
from schemas.states import ImageStatus
from tests.support.archives.image_delivery import push
from tests.support.archives.images import busybox_image
from tests.support.events import stored_events
from tests.support.processes import any_free
from tests.support.registries.locked_registry import PASSWORD, USER, LockedRegistry
from tests.support.systems.services import Services
from tests.support.systems.system import System, a_system
from tests.support.systems.whole_yard import WholeYard, whole_yard
from tests.support.tracing import recorded_spans
from tests.support.waiting import eventually

WRONG = "n0t-the-passw0rd"
TRACES = [
    PASSWORD,
    WRONG,
    base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode(),
    base64.b64encode(f"{USER}:{WRONG}".encode()).decode(),
]


@pytest.fixture
async def locked(services: Services, tmp_path: Path) -> AsyncIterator[LockedRegistry]:
    """A registry with `hidden/model:1` and `hidden/other:1` behind USER and PASSWORD."""
    registry = LockedRegistry(tmp_path / "registry", port=services.registry().port)
    await registry.start()
    for number, name in enumerate(("hidden/model", "hidden/other")):
        push(busybox_image(labels={"number": str(number)}), registry.host, name, "1")
    registry.locked = True
    await registry.restart()
    yield registry
    await registry.stop()


async def test_the_password_of_a_registry_shows_up_nowhere(
    own_nats: NatsPiece,
    mongo_url: str,
    docker_host: str,
    locked: LockedRegistry,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    said: list[str] = []
    with recorded_spans() as exporter:
        async with whole_yard(own_nats.url, mongo_url, docker_host) as yard:
            yard.http.event_hooks["response"].append(keep(said))
            await use(yard, locked.host)
            said += await stored(yard.services.bus)
            said += await documents(mongo_url, yard.settings.mongo_database)
            for seen in await yard.engine.list({}):
                said.append(str(seen))
    said += [span.to_json() for span in exporter.get_finished_spans()]
    said += [f"{line.getMessage()} {line.exc_text} {line.args}" for line in caplog.records]
    told = "\n".join(said)
    assert "hidden/model" in told
    assert '"name": "image-validate"' in told
    assert [trace for trace in TRACES if trace in told] == []


@pytest.fixture
async def processes(
    tmp_path: Path, own_nats: NatsPiece, mongo_url: str, registry_host: str, docker_host: str
) -> AsyncIterator[System]:
    where = {
        "NATS_URL": own_nats.url,
        "MONGO_URL": mongo_url,
        "REGISTRY": registry_host,
        "DOCKER_HOST": docker_host,
        "LOG_LEVEL": "DEBUG",
        "ACCESS_LOG": "true",
        "METRICS_OPEN": "true",
    }
    async with a_system(tmp_path / "yard", random.Random(), **where) as system:
        yield system


async def test_neither_logs_nor_metrics_nor_dead_letters_of_the_processes_show_a_password(
    processes: System, locked: LockedRegistry
) -> None:
    scraped = [any_free(random.Random()) for _ in range(2)]
    api = await processes.api()
    processes.settings["METRICS_PORT"] = str(scraped[0])
    await processes.worker()
    processes.settings["METRICS_PORT"] = str(scraped[1])
    await processes.agent()
    await processes.login(api)
    said: list[str] = []
    processes.http.event_hooks["response"].append(keep(said))
    await fail(processes, api, locked)
    for port in (api.port, *scraped):
        assert (await processes.http.get(f"http://127.0.0.1:{port}/metrics")).is_success
    async with Bus.open(processes.settings["NATS_URL"], name="reader") as bus:
        said += await stored(bus)
    logs = [piece.log.read_text() for piece in processes.pieces]
    assert all('"level": "debug"' in log for log in logs)
    told = "\n".join([*said, *logs])
    assert "hidden/other" in told
    assert [trace for trace in TRACES if trace in told] == []


async def fail(system: System, api: ApiPiece, locked: LockedRegistry) -> None:
    """In the check, in the pull, and for good: the image of the dead letter uses a secret too."""
    secrets = f"http://127.0.0.1:{api.port}/accounts/secrets/"
    for name, password in (("right", PASSWORD), ("wrong", WRONG)):
        body = credentials(locked.host, name, password)
        assert (await system.http.post(secrets, json=body)).status_code == 201
    reference = f"{locked.host}/hidden/other:1"
    asked = {"params": {"wait": 20}}
    wrong = {"reference": reference, "secret": "wrong"}
    refused = (await system.call(api, "POST", "/images", json=wrong, **asked)).json()
    assert refused["status"] == ImageStatus.FAILED
    right = {"reference": reference, "secret": "right"}
    image = (await system.call(api, "POST", "/images", json=right, **asked)).json()
    assert image["status"] == ImageStatus.READY
    # From now on nobody gets in: the registry reads its users anew.
    users = locked.folder / "htpasswd"
    users.write_text(users.read_text().replace(f"{USER}:", "somebody:"))
    await system.nodes(api)
    container = await system.run(api, image["uuid"], wait=1)
    path = f"/containers/{container['uuid']}"
    failed = await system.until(api, path, lambda c: c["status"] == "FAILED", 40)
    assert "denies" in failed["reason"]
    await poison(system, refused["uuid"])

    async def given_up() -> bool:
        return bool((await system.get(api, "/dead-letters"))["items"])

    await eventually(given_up, timeout_s=30)
    await system.call(api, "DELETE", path, params={"wait": 10})


async def poison(system: System, image: str) -> None:
    subject = topology.command("default", "image", "validate")
    message = Message(
        id="poison",
        subject=subject,
        type="modelyard.cmd.image.validate",
        time=now(),
        data={"uuid": [image]},
    )
    async with Bus.open(system.settings["NATS_URL"], name="automation") as bus:
        await bus.publish(message)


async def use(yard: WholeYard, host: str) -> None:
    """Rightly, wrongly, and with nothing to open."""
    for name, password in (("right", PASSWORD), ("wrong", WRONG)):
        body = credentials(host, name, password)
        answer = await yard.http.post("/accounts/secrets/", json=body)
        assert answer.status_code == 201, answer.text
    reference = f"{host}/hidden/model:1"
    assert (await yard.image(reference))["status"] == "FAILED"
    assert (await yard.image(reference, secret="wrong"))["status"] == "FAILED"
    assert (await yard.image(reference, secret="right"))["status"] == "READY"
    container = await yard.run(reference, name="opened")
    assert container["status"] == "RUNNING", container
    await yard.http.get(f"/yard/v1/containers/{container['uuid']}/logs")
    await yard.http.post("/yard/v1/images", json={"reference": f"{USER}:{WRONG}@{host}/x"})
    await yard.http.delete(f"/yard/v1/containers/{container['uuid']}", params={"wait": 10})


def credentials(host: str, name: str, password: str) -> dict[str, Any]:
    data = {"server": host, "username": USER, "password": password}
    return {"name": name, "secret_type": "registry", "data": data}


def keep(said: list[str]) -> Callable[[httpx.Response], Awaitable[None]]:
    async def keeping(answer: httpx.Response) -> None:
        await answer.aread()
        said.append(f"{answer.headers} {answer.text}")

    return keeping


async def stored(bus: Bus) -> list[str]:
    """Every event, dead letter and note of a failed attempt that the streams keep."""
    events = [f"{each.headers} {each.data!r}" async for each in stored_events(bus, None)]
    assert len(events) > 10
    for stream in (topology.DEAD, topology.ATTEMPTS):
        found = bus.read_stored(stream.name, stream.subjects[0])
        events += [f"{each.headers} {each.data!r}" async for each in found]
    return events


async def documents(mongo_url: str, database: str) -> list[str]:
    client: AsyncIOMotorClient[dict[str, object]] = AsyncIOMotorClient(mongo_url)
    try:
        found = []
        for name in await client[database].list_collection_names():
            async for document in client[database][name].find():
                found.append(json.dumps(document, default=json_util.default))
        return found
    finally:
        client.close()
