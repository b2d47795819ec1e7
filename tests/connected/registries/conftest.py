"""One application and one worker for all tests of the registry directory.

Each test has an organisation of its own in it.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from functools import partial

import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from api.app import create
from pipeline.services import Services as Yard
from tests.support.api_process import settings
from tests.support.image_delivery import push
from tests.support.images import busybox_image
from tests.support.locked_registry import LockedRegistry
from tests.support.registry_door import Door, client
from tests.support.services import Services
from workers.app import build
from workers.stages import STAGES


@pytest.fixture(scope="session")
async def app(services: Services, mongo_url: str) -> AsyncIterator[FastAPI]:
    """Nobody works for it."""
    nats = services.nats()
    await nats.start()
    app = create(settings(nats.url, mongo_url, registry_health_wait_s=25))
    async with app.router.lifespan_context(app):
        yield app
    await nats.stop()


@pytest.fixture(scope="session")
def yard(app: FastAPI) -> Yard:
    opened: Yard = app.state.services
    return opened


@pytest.fixture(scope="session")
async def worker(yard: Yard) -> AsyncIterator[None]:
    """Works in this process, on the services of the application."""
    registers = [partial(stages.register, services=yard) for stages in STAGES]
    working = build(yard.bus, registers, registry=CollectorRegistry(), drain_s=5, jitter=lambda: 0)
    await working.start()
    yield
    await working.stop()


@pytest.fixture(scope="session")
async def locked_host(
    services: Services, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[str]:
    """A registry with `team/model:1` behind USER and PASSWORD."""
    folder = tmp_path_factory.mktemp("locked")
    registry = LockedRegistry(folder, port=services.registry().port)
    await registry.start()
    push(busybox_image(), registry.host, "team/model", "1")
    registry.locked = True
    await registry.restart()
    yield registry.host
    await registry.stop()


@pytest.fixture
def org() -> str:
    return f"o{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def door(app: FastAPI, yard: Yard, worker: None, org: str) -> AsyncIterator[Door]:
    """Of an administrator."""
    async with await client(app, org) as http:
        yield Door(http, yard, org)


@pytest.fixture
async def other(app: FastAPI, yard: Yard, worker: None) -> AsyncIterator[Door]:
    """Of another organisation."""
    org = f"o{uuid.uuid4().hex[:12]}"
    async with await client(app, org) as http:
        yield Door(http, yard, org)
