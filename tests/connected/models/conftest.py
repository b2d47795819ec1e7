"""One system for all tests of the models' door: they make models of their own in it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from pipeline.bootstrap.control_plane import Services as Yard
from pipeline.bootstrap.control_plane import open_services
from pipeline.settings import Settings
from pipeline.stack.pieces.app import ApiPiece, AppPiece
from tests.support.archives.image_delivery import push
from tests.support.archives.images import busybox_image
from tests.support.models.model_images import model_image
from tests.support.models.models_door import Door
from tests.support.processes import any_free
from tests.support.registries.platform_registry import KEYS
from tests.support.systems.services import Services
from tests.support.systems.system import System, a_system
from tests.support.tenants import Tenant
from tests.support.waiting import eventually


@pytest.fixture(scope="session")
def load_wait_s() -> str:
    """How long a model waits for a node that is free."""
    return "3"


@pytest.fixture(scope="package")
async def models_system(
    tmp_path_factory: pytest.TempPathFactory,
    load_wait_s: str,
    services: Services,
    mongo_url: str,
    docker_host: str,
) -> AsyncIterator[System]:
    """API, worker and agent, running, and a registry that gives engines what the API lets them."""
    nats, port = services.nats(), any_free(random.Random())
    registry = services.registry(keys=KEYS, realm=f"http://127.0.0.1:{port}/token")
    await asyncio.gather(nats.start(), registry.start())
    where = {
        # Known to tests that read what is published.
        "NATS_URL": nats.url,
        "MONGO_URL": mongo_url,
        "API_PORT": str(port),
        "REGISTRY": registry.host,
        "REGISTRY_KEYS": KEYS,
        "DOCKER_HOST": docker_host,
        "LINK_TIMEOUT_S": "4",
        "STUCK_AFTER_S": "30",
        "LOAD_WAIT_S": load_wait_s,
    }
    folder = tmp_path_factory.mktemp("models")
    async with a_system(folder, random.Random(), **where) as system:
        yield system
    await asyncio.gather(nats.stop(), registry.stop())


@pytest.fixture(scope="package")
async def api(models_system: System, worker: AppPiece) -> ApiPiece:
    system = models_system
    api = await system.api()
    await system.agent()
    await system.login(api)
    await system.nodes(api)
    return api


@pytest.fixture(scope="package")
async def worker(models_system: System) -> AppPiece:
    return await models_system.worker()


@pytest.fixture(scope="package")
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


@pytest.fixture
async def inside(models_system: System, api: ApiPiece) -> AsyncIterator[Yard]:
    """The system's own services, opened once more: what no caller sees."""
    given: dict[str, Any] = {name.lower(): value for name, value in models_system.settings.items()}
    async with open_services(Settings(**given), name="test") as yard:
        yield yard


@pytest.fixture
async def stranger(door: Door, inside: Yard) -> AsyncIterator[Door]:
    """A member of another organisation, with all rights of members."""
    headers = {"Authorization": f"ApiKey {await Tenant(inside.access).key()}"}
    async with httpx.AsyncClient(base_url=door.http.base_url, headers=headers, timeout=30) as http:
        yield Door(http)


@pytest.fixture(scope="session")
def linked(registry_host: str) -> str:
    """Reference of an image that is there; it is no model."""
    push(busybox_image(), registry_host, "models/location/classifier", "0.2.0")
    return f"{registry_host}/models/location/classifier:0.2.0"


Models = Callable[..., str]
"""Makes a model that behaves as the given variables say; returns its reference."""


@pytest.fixture(scope="session")
def models(registry_host: str) -> Models:
    def push_one(*, platform: str = "linux/amd64", **env: str) -> str:
        image = model_image(platform=platform, **env)
        name = f"models/tiny:{image.digest[7:19]}"
        push(image, registry_host, *name.split(":"))
        return f"{registry_host}/{name}"

    return push_one


@pytest.fixture(scope="session")
def well(models: Models) -> str:
    return models()


@pytest.fixture
async def no_containers_stay(models_system: System) -> AsyncIterator[None]:
    """After the test, no container of its system stays on the engine, running or not.

    A start that became void may still bring up what it takes back at once.
    """
    yield

    async def all_gone() -> bool:
        return await models_system.engine_containers() == []

    await eventually(all_gone)
