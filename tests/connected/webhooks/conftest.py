"""One application and two workers, in this process, and receivers on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient
from prometheus_client import CollectorRegistry

from api.app import create
from pipeline.bootstrap.control_plane import Services as Yard
from tests.support.http.api_process import settings
from tests.support.http.hook_receiver import Receiver, receiving
from tests.support.systems.services import Services
from workers.app import Sweep, build, running
from workers.control_plane import stages, webhook_readers

OFTEN_S = 0.05


@pytest.fixture(scope="package")
async def app(services: Services, mongo_url: str) -> AsyncIterator[FastAPI]:
    nats = services.nats()
    await nats.start()
    app = create(
        settings(
            nats.url, mongo_url, webhook_retries_s="0.1,0.1,0.1", webhook_timeout_s=1, sweep_age_s=0
        )
    )
    async with app.router.lifespan_context(app), AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(_worker(app.state.services))
        yield app
    await nats.stop()


@asynccontextmanager
async def _worker(yard: Yard) -> AsyncIterator[None]:
    working = build(yard.bus, stages(yard), registry=CollectorRegistry(), drain_s=5)
    reading = webhook_readers(working, yard)
    ticking = [
        Sweep("webhook readers", OFTEN_S, reading.sweep),
        Sweep("webhook deliveries", OFTEN_S, yard.webhooks.deliveries.sweep),
    ]
    await working.start()
    async with running(ticking, jitter=lambda: 0.5):
        yield
    await working.stop()


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


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver
