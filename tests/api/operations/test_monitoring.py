from __future__ import annotations

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from api.app import drain
from api.operations import monitoring
from pipeline import telemetry
from pipeline.errors import BusUnavailable, StoreUnavailable
from pipeline.events.readers import Wanted
from pipeline.monitoring.service import Figures, NodeFigures, Queue
from tests.support.http.front import Front, caller


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

    monkeypatch.setattr(monitoring, "CHECK_S", 0.01)
    monkeypatch.setattr(fake.store, "ping", hang)
    answer = await http.get("/readyz")
    assert answer.status_code == 503
    assert "No answer" in answer.json()["dependencies"]["store"]["detail"]


async def test_a_stopping_server_is_not_ready(app: FastAPI, http: AsyncClient) -> None:
    drain(app)
    answer = await http.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (503, "stopping")
    assert (await http.get("/healthz")).status_code == 200


async def test_requests_are_counted_under_their_route(http: AsyncClient) -> None:
    await http.get("/yard/v1/images/some-uuid")
    await http.head("/yard/v1/images/other-uuid")
    text = (await http.get("/metrics")).text
    assert (
        'modelyard_http_request_seconds_count{method="GET",'
        'route="/yard/v1/images/{uuid}",status="404"} 2.0' in text
    )
    assert "uuid-" not in text
    assert "some-uuid" not in text


async def test_unknown_paths_share_one_series(http: AsyncClient) -> None:
    for number in range(3):
        await http.get(f"/made-up/{number}")
    text = (await http.get("/metrics")).text
    assert 'route="(unknown)",status="404"} 3.0' in text
    assert "made-up" not in text


async def test_refused_and_failed_requests_are_counted_too(app: FastAPI, fake: Front) -> None:
    async with caller(app, None) as http:
        await http.get("/yard/v1/images")
    fake.images.failure = ZeroDivisionError()
    async with caller(app) as http:
        await http.get("/yard/v1/images")
        text = (await http.get("/metrics")).text
    assert 'route="/yard/v1/images",status="401"} 1.0' in text
    assert 'route="/yard/v1/images",status="500"} 1.0' in text


async def test_the_event_hub_is_measured(fake: Front, http: AsyncClient) -> None:
    fake.log.happen()
    async with fake.hub.subscribe("acme", Wanted(), after="rubbish"):
        text = (await http.get("/metrics")).text
    assert "modelyard_event_readers 1.0" in text
    assert "modelyard_event_head 1.0" in text
    assert "modelyard_event_resets_total 1.0" in text


async def test_the_space_of_the_registry_is_told_once_it_is_known(
    fake: Front, http: AsyncClient
) -> None:
    assert "modelyard_registry_bytes{" not in (await http.get("/metrics")).text
    fake.fence.used, fake.fence.reclaimable = 4096, 1024
    text = (await http.get("/metrics")).text
    assert 'modelyard_registry_bytes{kind="used"} 4096.0' in text
    assert 'modelyard_registry_bytes{kind="reclaimable"} 1024.0' in text


async def test_metrics_need_a_token_unless_they_are_opened(app: FastAPI, fake: Front) -> None:
    async with caller(app, None) as http:
        assert (await http.get("/metrics")).status_code == 401
        fake.settings.metrics_open = True
        assert (await http.get("/metrics")).status_code == 200


SYSTEM = Figures(
    queues=[Queue("image-validate", 3, 2, 41.5)],
    dead_letters=7,
    nodes=[NodeFigures("n1", "READY", False, 8, 3, 1, 1.5, 2**40, 2**30, 64, 12.5)],
    records={"container": {"RUNNING": 5}},
)


async def test_what_the_whole_system_does_is_told(fake: Front, http: AsyncClient) -> None:
    fake.monitoring.known = SYSTEM
    lines = (await http.get("/metrics")).text.splitlines()
    assert {
        'modelyard_queue_messages{stage="image-validate",state="waiting"} 3.0',
        'modelyard_queue_messages{stage="image-validate",state="in_progress"} 2.0',
        'modelyard_queue_oldest_seconds{stage="image-validate"} 41.5',
        "modelyard_dead_letters 7.0",
        'modelyard_node_gpus{node="n1"} 8.0',
        'modelyard_node_gpus_allocated{node="n1"} 3.0',
        'modelyard_node_gpus_busy{node="n1"} 1.5',
        'modelyard_node_status{node="n1",status="READY"} 1.0',
        'modelyard_records{resource="container",status="RUNNING"} 5.0',
    } <= set(lines)


async def test_without_the_broker_old_figures_are_not_told_for_new_ones(
    fake: Front, http: AsyncClient
) -> None:
    fake.monitoring.known = SYSTEM
    assert "modelyard_dead_letters" in (await http.get("/metrics")).text
    fake.monitoring.failure = BusUnavailable("NATS is gone.")
    answer = await http.get("/metrics")
    assert answer.status_code == 200
    assert "modelyard_dead_letters" not in answer.text
    assert "modelyard_http_request_seconds_count" in answer.text


async def test_what_this_process_counts_is_told(http: AsyncClient) -> None:
    telemetry.count(telemetry.EVENTS, "image", "tested-for-metrics", by=2)
    text = (await http.get("/metrics")).text
    assert 'modelyard_events_total{kind="tested-for-metrics",resource="image"} 2.0' in text
