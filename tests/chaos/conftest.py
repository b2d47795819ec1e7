"""Systems of processes, with services that the test may kill."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.stack.pieces.app import ApiPiece, AppPiece
from pipeline.stack.pieces.dockerd import DockerdPiece
from pipeline.stack.pieces.mongod import MongodPiece
from pipeline.stack.pieces.nats import NatsPiece
from tests.support.archives.image_delivery import push
from tests.support.archives.images import HEALTHCHECK, busybox_image
from tests.support.systems.services import Services
from tests.support.systems.system import System, a_system
from tests.support.waiting import eventually


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
    """One of each, running, on services of their own; its images are `served` and `checked`."""

    system: System
    api: ApiPiece
    worker: AppPiece
    agent: AppPiece
    nats: NatsPiece
    mongod: MongodPiece
    dockerd: DockerdPiece

    async def mend(self) -> None:
        """All of it runs, and no container is left: whatever was stopped, killed or paused."""
        for piece in (self.mongod, self.nats, self.dockerd, self.worker, self.agent, self.api):
            piece.resume()
            await piece.start()
        await self.system.nodes(self.api)
        for left in (await self.system.get(self.api, "/containers?limit=200"))["items"]:
            path = f"/containers/{left['uuid']}"
            await self.system.call(self.api, "DELETE", path, params={"wait": 20})

        async def is_empty() -> bool:
            return await self.system.engine_containers() == []

        await eventually(is_empty)


@pytest.fixture(scope="package")
async def shared_yard(
    tmp_path_factory: pytest.TempPathFactory,
    services: Services,
    registry_host: str,
    served: str,
    checked: str,
) -> AsyncIterator[Yard]:
    mongod, nats, dockerd = services.mongod(), services.nats(), services.dockerd()
    await asyncio.gather(mongod.start(), nats.start(), dockerd.start())
    where = {
        "NATS_URL": nats.url,
        "MONGO_URL": mongod.url,
        "REGISTRY": registry_host,
        "DOCKER_HOST": dockerd.host,
    }
    async with a_system(tmp_path_factory.mktemp("chaos"), random.Random(), **where) as system:
        api, worker, agent = await system.api(), await system.worker(), await system.agent()
        await system.login(api)
        await system.nodes(api)
        for reference in (served, checked):
            await system.image(api, reference)
        yield Yard(system, api, worker, agent, nats, mongod, dockerd)
    await asyncio.gather(mongod.stop(), nats.stop(), dockerd.stop())


@pytest.fixture
async def yard(shared_yard: Yard) -> AsyncIterator[Yard]:
    yield shared_yard
    await shared_yard.mend()
