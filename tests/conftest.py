"""Fixtures that give a test a real service. Each is started when the first test asks for it.

`mongo_url`, `nats_url`, `registry_host`, `platform_registry` and `docker_host` are shared by the
whole run: use names of your own in them. `own_nats`, `own_mongod`, `own_registry` and `own_dockerd`
belong to one test, which may stop, kill, pause and restart them.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from pipeline.stack.pieces.dockerd import DockerdPiece
from pipeline.stack.pieces.mongod import MongodPiece
from pipeline.stack.pieces.nats import NatsPiece
from pipeline.stack.pieces.registry import RegistryPiece
from tests.support.registries.platform_registry import KEYS, NO_REALM
from tests.support.systems.services import Services, sweep

if TYPE_CHECKING:
    from pipeline.adapters.bus.client import Bus
    from pipeline.adapters.store.store import Store


# How long an example takes says something about the machine, not about the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

LONGEST_FIRST = (
    "tests/deploy",
    "tests/docs",
    "tests/chaos",
    "tests/connected/stack",
    "tests/connected/api",
    "tests/clients",
    "tests/browser",
    "tests/connected/models",
    "tests/connected/registries",
    "tests/connected",
)
"""Files of these folders run for long. Two runners end together when they do not come last."""
AS_ONE = (
    "tests/docs",
    "tests/chaos",
    "tests/connected/models",
    "tests/connected/registries",
    "tests/connected/imported_containers",
    "tests/connected/container_svc",
    "tests/connected/archives",
)
"""Folders whose files share a system of processes: one runner has them all, and starts it once."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        ranks = (at for at, path in enumerate(LONGEST_FIRST) if item.nodeid.startswith(f"{path}/"))
        return next(ranks, len(LONGEST_FIRST))

    items.sort(key=rank)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Gives out files, and the folders of AS_ONE whole."""
    from xdist.scheduler import LoadFileScheduling

    class Folders(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return next((path for path in AS_ONE if file.startswith(f"{path}/")), file)

    return Folders(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(scope="session")
async def services() -> AsyncIterator[Services]:
    await sweep()
    services = Services()
    yield services
    await services.stop()


@pytest.fixture(scope="session")
async def mongod(services: Services) -> MongodPiece:
    piece = services.mongod()
    await piece.start()
    return piece


@pytest.fixture(scope="session")
async def nats_server(services: Services) -> NatsPiece:
    piece = services.nats()
    await piece.start()
    return piece


@pytest.fixture(scope="session")
async def registry_server(services: Services) -> RegistryPiece:
    piece = services.registry()
    await piece.start()
    return piece


@pytest.fixture(scope="session")
async def platform_registry(services: Services) -> RegistryPiece:
    piece = services.registry(keys=KEYS, realm=NO_REALM)
    await piece.start()
    return piece


@pytest.fixture(scope="session")
async def docker_daemon(services: Services) -> DockerdPiece:
    piece = services.dockerd()
    await piece.start()
    return piece


@pytest.fixture(scope="session")
def mongo_url(mongod: MongodPiece) -> str:
    """With credentials."""
    return mongod.url


@pytest.fixture(scope="session")
def nats_url(nats_server: NatsPiece) -> str:
    """With the credentials of the system's own user."""
    return nats_server.url


@pytest.fixture(scope="session")
def registry_host(registry_server: RegistryPiece) -> str:
    """`127.0.0.1:port`, plain HTTP, deletes allowed: somebody's, which asks nobody who he is."""
    return registry_server.host


@pytest.fixture(scope="session")
def docker_host(docker_daemon: DockerdPiece) -> str:
    """For DOCKER_HOST; containers get published ports on loopback and no way out is promised."""
    return docker_daemon.host


@pytest.fixture
async def own_nats(services: Services) -> AsyncIterator[NatsPiece]:
    piece = services.nats()
    await piece.start()
    yield piece
    await piece.kill()


@pytest.fixture
async def own_mongod(services: Services) -> AsyncIterator[MongodPiece]:
    piece = services.mongod()
    await piece.start()
    yield piece
    await piece.kill()


@pytest.fixture
async def own_registry(services: Services) -> AsyncIterator[RegistryPiece]:
    piece = services.registry()
    await piece.start()
    yield piece
    await piece.stop()


@pytest.fixture
async def own_dockerd(services: Services) -> AsyncIterator[DockerdPiece]:
    piece = services.dockerd()
    await piece.start()
    yield piece
    await piece.stop()


@pytest.fixture(scope="session")
def database() -> str:
    """Name of the database that `store` opens for one test after the other."""
    return f"test-{uuid.uuid4().hex}"


@pytest.fixture
async def store(mongo_url: str, database: str) -> AsyncIterator[Store]:
    """With its indexes and nothing in it. Making those anew for each test would cost more than
    most tests do."""
    from pipeline.adapters.store import log_chunks, windows
    from pipeline.adapters.store.store import KINDS, Store

    async with Store.open(mongo_url, database) as store:
        await store.prepare()
        for kind in KINDS:
            await store._collection(kind).delete_many({})
        for name in (windows.COLLECTION, log_chunks.CHUNKS, log_chunks.STATE):
            await store.beside(name).delete_many({})
        yield store


@pytest.fixture
async def bus(own_nats: NatsPiece) -> AsyncIterator[Bus]:
    """On a server of its own, with its streams and stages."""
    from pipeline.adapters.bus.client import Bus

    async with Bus.open(own_nats.url, name="test") as bus:
        await bus.prepare()
        yield bus
