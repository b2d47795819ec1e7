"""Systems of processes, with services that the test may kill."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.stack.pieces.app import ApiPiece, AppPiece
from pipeline.stack.pieces.nats import NatsPiece
from tests.support.archives.image_delivery import push
from tests.support.archives.images import HEALTHCHECK, busybox_image
from tests.support.systems.system import System, a_system


@pytest.fixture(scope="session")
def served(registry_host: str) -> str:
    """Reference of an image that serves HTTP on 8080 until SIGTERM."""
    push(busybox_image(), registry_host, "chaos/serves", "1")
    return f"{registry_host}/chaos/serves:1"


@pytest.fixture(scope="session")
def checked(registry_host: str) -> str:
    """The same with a HEALTHCHECK that fails once its file is removed."""
    push(busybox_image(healthcheck=HEALTHCHECK), registry_host, "chaos/checked", "1")
    return f"{registry_host}/chaos/checked:1"


@pytest.fixture
async def system(
    tmp_path: Path, own_nats: NatsPiece, mongo_url: str, registry_host: str, docker_host: str
) -> AsyncIterator[System]:
    """Not started: API, workers and agents are the test's to choose."""
    where = {
        "NATS_URL": own_nats.url,
        "MONGO_URL": mongo_url,
        "REGISTRY": registry_host,
        "DOCKER_HOST": docker_host,
    }
    async with a_system(tmp_path, random.Random(), **where) as system:
        yield system


@dataclass
class Yard:
    """One of each, running."""

    system: System
    api: ApiPiece
    worker: AppPiece
    agent: AppPiece
    nats: NatsPiece


@pytest.fixture
async def yard(system: System, own_nats: NatsPiece) -> Yard:
    api = await system.api()
    worker, agent = await system.worker(), await system.agent()
    await system.login(api)
    await system.nodes(api)
    return Yard(system, api, worker, agent, own_nats)
