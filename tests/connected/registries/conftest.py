"""One application and one worker for all tests of the registry directory.

Each test has an organisation of its own in it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from api.app import create
from pipeline.bootstrap.control_plane import Services as Yard
from tests.support.archives.image_delivery import push
from tests.support.archives.images import busybox_image
from tests.support.http.api_process import settings
from tests.support.registries.locked_registry import LockedRegistry
from tests.support.registries.registry_door import Door, client
from tests.support.systems.services import Services
from tests.support.tenants import an_organisation
from workers.app import build
from workers.control_plane import stages


@pytest.fixture(scope="package")
async def app(services: Services, mongo_url: str) -> AsyncIterator[FastAPI]:
    """Nobody works for it."""
    nats = services.nats()
    await nats.start()
    app = create(settings(nats.url, mongo_url, registry_health_wait_s=25))
    async with app.router.lifespan_context(app):
        yield app
    await nats.stop()


@pytest.fixture(scope="package")
def yard(app: FastAPI) -> Yard:
    opened: Yard = app.state.services
    return opened


@pytest.fixture(scope="package")
async def worker(yard: Yard) -> AsyncIterator[None]:
    """Works in this process, on the services of the application."""
    working = build(
        yard.bus, stages(yard), registry=CollectorRegistry(), drain_s=5, jitter=lambda: 0
    )
    await working.start()
    yield
    await working.stop()


@pytest.fixture(scope="package")
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
async def org(yard: Yard) -> str:
    return await an_organisation(yard)


@pytest.fixture
async def door(app: FastAPI, yard: Yard, worker: None, org: str) -> AsyncIterator[Door]:
    """Of an administrator."""
    async with await client(app, org) as http:
        yield Door(http, yard, org)


@pytest.fixture
async def other(app: FastAPI, yard: Yard, worker: None) -> AsyncIterator[Door]:
    """Of another organisation."""
    org = await an_organisation(yard)
    async with await client(app, org) as http:
        yield Door(http, yard, org)
