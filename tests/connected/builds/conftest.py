"""A whole system with an engine that builds, shared by the tests here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.systems.services import Services
from tests.support.systems.whole_yard import WholeYard, whole_yard


@pytest.fixture(scope="session")
def build_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("contexts")


@pytest.fixture(scope="session")
async def yard(
    services: Services,
    mongo_url: str,
    docker_host: str,
    registry_host: str,
    build_root: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[WholeYard]:
    nats = services.nats()
    await nats.start()
    async with whole_yard(
        nats.url,
        mongo_url,
        docker_host,
        registry=registry_host,
        state=tmp_path_factory.mktemp("state"),
        build_roots=str(build_root),
        asset_allow="127.0.0.0/8,localhost",
    ) as yard:
        yield yard
    await nats.stop()
