"""One system for all tests of the container service; each test has its own names."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.systems.service_yard import Svc, service_yard
from tests.support.systems.services import Services
from tests.support.systems.whole_yard import WholeYard


@pytest.fixture(scope="package")
async def opened(
    services: Services,
    mongo_url: str,
    registry_host: str,
    docker_host: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[WholeYard, str, str]]:
    settings = {
        "asset_allow": "127.0.0.1",
        "state": tmp_path_factory.mktemp("state"),
        "build_roots": str(tmp_path_factory.mktemp("contexts")),
        "build_context_max_bytes": 16 * 2**20,
    }
    async with service_yard(services, mongo_url, registry_host, docker_host, settings) as opened:
        yield opened


@pytest.fixture
async def svc(opened: tuple[WholeYard, str, str]) -> AsyncIterator[Svc]:
    yard, image, healthy = opened
    svc = Svc(yard, yard.http, image, healthy)
    yield svc
    for left in await svc.listed():
        await svc.change("remove", id=left["id"], name=left["names"][0], removeKeeps=True)
