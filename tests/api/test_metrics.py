from __future__ import annotations

from fastapi import FastAPI
from httpx import AsyncClient

from pipeline.core.event_lanes import Wanted
from tests.support.front import Front, caller


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


async def test_metrics_need_a_token_unless_they_are_opened(app: FastAPI, fake: Front) -> None:
    async with caller(app, None) as http:
        assert (await http.get("/metrics")).status_code == 401
        fake.settings.metrics_open = True
        assert (await http.get("/metrics")).status_code == 200
