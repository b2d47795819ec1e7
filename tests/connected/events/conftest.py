"""One application and one worker, in this process, for what is told of events."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient
from prometheus_client import CollectorRegistry

from api.app import create
from pipeline.bootstrap.control_plane import Services as Yard
from tests.support.http.api_process import settings
from tests.support.systems.services import Services
from workers.app import build
from workers.control_plane import stages


@pytest.fixture(scope="package")
async def app(services: Services, mongo_url: str) -> AsyncIterator[FastAPI]:
    nats = services.nats()
    await nats.start()
    app = create(settings(nats.url, mongo_url))
    async with app.router.lifespan_context(app):
        yard: Yard = app.state.services
        working = build(yard.bus, stages(yard), registry=CollectorRegistry(), drain_s=5)
        await working.start()
        yield app
        await working.stop()
    await nats.stop()


@pytest.fixture(scope="package")
def yard(app: FastAPI) -> Yard:
    opened: Yard = app.state.services
    return opened


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(
        transport=ASGITransport(app), base_url="http://yard/yard/v1", timeout=30
    ) as http:
        yield http
