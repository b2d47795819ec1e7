from __future__ import annotations

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from api import health
from api.app import drain
from pipeline.errors import BusUnavailable, StoreUnavailable
from tests.support.front import Front, caller


async def test_a_ready_server_names_every_dependency(app: FastAPI) -> None:
    async with caller(app, None) as http:
        answer = await http.get("/readyz")
    assert answer.status_code == 200
    body = answer.json()
    assert body["status"] == "ready"
    assert body["dependencies"].keys() == {"store", "bus", "streams", "events", "registry"}
    for one in body["dependencies"].values():
        assert one["status"] == "ok"
        assert one["latency_ms"] >= 0


@pytest.mark.parametrize(
    ("name", "failure"),
    [("store", StoreUnavailable("MongoDB is gone.")), ("bus", BusUnavailable("NATS is gone."))],
)
async def test_a_required_dependency_that_fails_makes_it_not_ready(
    fake: Front, http: AsyncClient, name: str, failure: Exception
) -> None:
    getattr(fake, name).failure = failure
    answer = await http.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (503, "not ready")
    assert answer.json()["dependencies"][name]["detail"] == str(failure)
    assert (await http.get("/healthz")).status_code == 200


async def test_missing_streams_are_named(fake: Front, http: AsyncClient) -> None:
    fake.bus.absent = ["YARD_EVENTS", "image-validate"]
    answer = await http.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["dependencies"]["streams"]["detail"] == (
        "Missing: YARD_EVENTS, image-validate."
    )


async def test_the_registry_is_reported_but_not_required(fake: Front, http: AsyncClient) -> None:
    fake.registry.oci = False
    answer = await http.get("/readyz")
    assert answer.status_code == 200
    registry = answer.json()["dependencies"]["registry"]
    assert (registry["status"], registry["required"]) == ("failed", False)
    assert registry["detail"] == "Connection refused"


async def test_a_dependency_that_hangs_is_not_waited_for(
    fake: Front, http: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    async def hang() -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(health, "CHECK_S", 0.01)
    monkeypatch.setattr(fake.store, "ping", hang)
    answer = await http.get("/readyz")
    assert answer.status_code == 503
    assert "No answer" in answer.json()["dependencies"]["store"]["detail"]


async def test_a_stopping_server_is_not_ready(app: FastAPI, http: AsyncClient) -> None:
    drain(app)
    answer = await http.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (503, "stopping")
    assert (await http.get("/healthz")).status_code == 200
