"""One system for all tests of the models' door: they make models of their own in it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import httpx
import pytest

from pipeline.stack.app import ApiPiece
from tests.support.image_delivery import push
from tests.support.images import busybox_image
from tests.support.models_door import Door
from tests.support.services import Services
from tests.support.system import System, a_system


@pytest.fixture(scope="session")
async def models_system(
    tmp_path_factory: pytest.TempPathFactory,
    services: Services,
    mongo_url: str,
    registry_host: str,
    docker_host: str,
) -> AsyncIterator[System]:
    """API, worker and agent, running."""
    nats = services.nats()
    await nats.start()
    where = {
        "NATS_URL": nats.url,
        "MONGO_URL": mongo_url,
        "REGISTRY": registry_host,
        "DOCKER_HOST": docker_host,
        "LINK_TIMEOUT_S": "4",
        "STUCK_AFTER_S": "30",
    }
    folder = tmp_path_factory.mktemp("models")
    async with a_system(folder, random.Random(), **where) as system:
        yield system
    await nats.stop()


@pytest.fixture(scope="session")
async def api(models_system: System) -> ApiPiece:
    system = models_system
    api = await system.api()
    await system.worker()
    await system.agent()
    await system.login(api)
    await system.nodes(api)
    return api


@pytest.fixture(scope="session")
async def api_key(models_system: System, api: ApiPiece) -> str:
    answer = await models_system.call(
        api, "POST", "/tokens", json={"name": "models", "role": "member"}
    )
    return str(answer.json()["token"])


@pytest.fixture
async def door(api: ApiPiece, api_key: str) -> AsyncIterator[Door]:
    headers = {"Authorization": f"ApiKey {api_key}"}
    address = f"http://127.0.0.1:{api.port}"
    async with httpx.AsyncClient(base_url=address, headers=headers, timeout=100) as http:
        yield Door(http)


@pytest.fixture(scope="session")
def linked(registry_host: str) -> str:
    """Reference of an image that is there; it is no model."""
    push(busybox_image(), registry_host, "models/location/classifier", "0.2.0")
    return f"{registry_host}/models/location/classifier:0.2.0"
