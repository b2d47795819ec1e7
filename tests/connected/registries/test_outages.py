"""Store or broker away, nobody working: still the envelope, and nothing of the inside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from api.app import create
from pipeline.stack.pieces.mongod import MongodPiece
from pipeline.stack.pieces.nats import NatsPiece
from tests.support.http.api_process import settings
from tests.support.registries.registry_door import Door, client, entry
from tests.support.waiting import eventually

CALLS: list[tuple[str, str, Any]] = [
    ("POST", "/container_registry", entry()),
    ("GET", "/container_registry/x", None),
    ("PUT", "/container_registry/x", {"container_registry_name": "x"}),
    ("DELETE", "/container_registry/x", None),
    ("POST", "/container_registries", {}),
    ("POST", "/container_registries", {"container_registry_tags": "x"}),
    ("GET", "/check_container_health/x", None),
]
ID = "4080f3b5-4d6e-4c36-a6eb-d6f0cd3b0e6d"
IMPORTED: list[tuple[str, str, Any]] = [
    *((method, "/models/client/model-repos/", {}) for method in ("POST", "GET", "DELETE")),
    *((method, "/accounts/secrets/", {}) for method in ("POST", "GET")),
    ("DELETE", f"/accounts/secrets/{ID}/", None),
    ("POST", "/deployments/private/deploy-model/", {}),
    ("GET", "/deployments/model-deployments/", None),
    ("GET", f"/deployments/model-deployments/{ID}/", None),
    ("POST", f"/deployments/{ID}/edit", {}),
    ("POST", f"/deployments/{ID}/startstop/", {"action": "stop"}),
    ("DELETE", f"/deployments/{ID}/delete/", None),
]
"""Of the door of imported containers."""


@pytest.fixture
async def lonely(own_mongod: MongodPiece, own_nats: NatsPiece) -> AsyncIterator[Door]:
    """An application without a worker, on services that a test may stop."""
    app = create(
        settings(own_nats.url, own_mongod.url, registry_health_wait_s=0.5, verdict_wait_s=0.5)
    )
    async with app.router.lifespan_context(app), await client(app, "acme") as http:
        yield Door(http, app.state.services, "acme")


def assert_unavailable(answer: httpx.Response, status: int = 503) -> None:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"success", "error"}
    assert body["success"] is False
    for word in ("mongo", "Mongo", "nats", "127.0.0.1", "Error", "Timeout", "Reconnect", ":"):
        assert word not in body["error"].replace("moment:", "moment")


async def test_nobody_who_looks_is_504_and_the_check_goes_on(lonely: Door) -> None:
    id = await lonely.create()
    answer = await lonely.http.get(f"/check_container_health/{id}")
    assert_unavailable(answer, 504)
    assert len((await lonely.record(id)).asked) == 2


async def test_a_store_that_is_away_is_503_and_comes_back(
    lonely: Door, own_mongod: MongodPiece
) -> None:
    id = await lonely.create()
    # Known to the application for a while, as every caller of a busy one is.
    await lonely.get(id)
    await own_mongod.kill()
    answers = await asyncio.gather(
        *(lonely.http.request(method, path, json=body) for method, path, body in CALLS)
    )
    for answer in answers:
        assert_unavailable(answer)
    others = await asyncio.gather(
        *(lonely.http.request(method, path, json=body) for method, path, body in IMPORTED)
    )
    told = {"detail": "The service is unavailable at the moment: try again."}
    assert [(each.status_code, each.json()) for each in others] == [(503, told)] * len(IMPORTED)
    await own_mongod.start()

    async def is_back() -> bool:
        return (await lonely.http.get(f"/container_registry/{id}")).status_code == 200

    await eventually(is_back, timeout_s=30)


async def test_without_a_broker_entries_are_written_and_their_events_wait(
    lonely: Door, own_nats: NatsPiece
) -> None:
    await own_nats.kill()
    id = await lonely.create()
    await lonely.updated(id, {"container_registry_name": "x"})
    told = [message.type for message in (await lonely.record(id)).outbox]
    assert told == [
        "modelyard.registry.created",
        "modelyard.cmd.registry.health",
        "modelyard.registry.updated",
    ]
    assert_unavailable(await lonely.http.get(f"/check_container_health/{id}"), 504)
    # So do images, whose verdict comes with the broker.
    image = {"name": "x", "runtime_gpus": 0, "docker_tag": "1", "registry_path": "127.0.0.1:9/a"}
    asked = image | {"source_type": "docker_hub"}
    pending = await lonely.http.post("/models/client/model-repos/", json=asked)
    assert (pending.status_code, pending.json()["status"]) == (201, "PENDING"), pending.text
