"""One system and one browser for all tests of the page."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from pipeline.stack.app import ApiPiece
from pipeline.stack.nats import NatsPiece
from tests.support.browser import Browser, a_browser
from tests.support.image_delivery import push
from tests.support.images import busybox_image
from tests.support.services import Services
from tests.support.system import System, a_system

COUNTS = (
    "sh",
    "-c",
    "trap 'exit 0' TERM; i=0;"
    ' while :; do echo "line $i <img src=x>"; i=$((i+1)); sleep 0.1; done',
)
"""A command that goes on writing numbered lines until SIGTERM."""


@dataclass
class Yard:
    """One of each, running; its GPUs are simulated."""

    system: System
    api: ApiPiece
    nats: NatsPiece
    token: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.api.port}/"


@pytest.fixture(scope="module")
def counting(registry_host: str) -> str:
    """Reference of an image that writes numbered lines."""
    push(busybox_image(command=COUNTS), registry_host, "browser/counts", "1")
    return f"{registry_host}/browser/counts:1"


@pytest.fixture(scope="module")
async def yard(
    services: Services,
    tmp_path_factory: pytest.TempPathFactory,
    mongo_url: str,
    registry_host: str,
    docker_host: str,
) -> AsyncIterator[Yard]:
    nats = services.nats()
    await nats.start()
    where = {
        "NATS_URL": nats.url,
        "MONGO_URL": mongo_url,
        "REGISTRY": registry_host,
        "DOCKER_HOST": docker_host,
        "ACCESS_TOKEN_S": "3600",
        "SIMULATED_GPUS": "4xH100-80GB",
    }
    folder = tmp_path_factory.mktemp("browser")
    async with a_system(folder, random.Random(), **where) as system:
        api = await system.api()
        await system.worker()
        await system.agent()
        await system.login(api)
        await system.nodes(api)
        token = system.http.headers["Authorization"].removeprefix("Bearer ")
        yield Yard(system, api, nats, token)
    await nats.stop()


@pytest.fixture(scope="module")
async def chromium(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    async with a_browser(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
async def browser(chromium: Browser) -> Browser:
    """On an empty page; what an earlier test's page complained about is forgotten."""
    await chromium.go("about:blank")
    await chromium.complaints()
    return chromium
