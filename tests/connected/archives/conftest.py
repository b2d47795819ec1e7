"""Taking in archives: a registry, and a server process with a store and a broker."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import httpx
import pytest

from pipeline.adapters.registry_push import RegistryPush
from pipeline.core.ingest import Ingest
from pipeline.core.ingested import Ingested, Wish
from pipeline.settings import Settings
from pipeline.stack.registry import RegistryPiece
from tests.support.api_process import ApiProcess, api_process, log_in, settings
from tests.support.registry_files import RegistryFiles
from tests.support.services import Services

Receive = Callable[..., Awaitable[Ingested]]


@pytest.fixture(scope="session")
def files(registry_server: RegistryPiece) -> RegistryFiles:
    return RegistryFiles(registry_server.host, registry_server.folder)


@pytest.fixture
def org() -> str:
    """Of one test: nobody else's layers are in its pool."""
    return f"o-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def limits() -> dict[str, int]:
    """Settings of the ingest, for tests that want others."""
    return {}


@pytest.fixture
def ingest(registry_host: str, limits: dict[str, int]) -> Iterator[Ingest]:
    given = Settings(registry=registry_host, **limits)  # type: ignore[arg-type]
    with Ingest.open(RegistryPush(registry_host), given) as ingest:
        yield ingest


@pytest.fixture
def receive(ingest: Ingest, org: str) -> Receive:
    """Takes in bytes, in pieces of `step`."""

    async def receive(archive: bytes, *, step: int = 65536, **wish: str) -> Ingested:
        return await ingest.receive(
            pieces(archive, step),
            org=org,
            wish=Wish(**wish),
            length=len(archive),
            progress=ignored,
            proving=nothing,
        )

    return receive


async def pieces(archive: bytes, step: int = 65536) -> AsyncIterator[bytes]:
    for at in range(0, len(archive), step):
        yield archive[at : at + step]


async def ignored(received: int, total: int | None) -> None:
    return


async def nothing() -> None:
    return


@pytest.fixture(scope="session")
def api_settings(
    tmp_path_factory: pytest.TempPathFactory, mongo_url: str, registry_host: str
) -> Callable[..., Settings]:
    def made(nats_url: str, **given: object) -> Settings:
        where = {"registry": registry_host, "state": tmp_path_factory.mktemp("state")}
        return settings(nats_url, mongo_url, **where | given)

    return made


@pytest.fixture(scope="session")
async def archive_nats(services: Services) -> AsyncIterator[str]:
    nats = services.nats()
    await nats.start()
    yield nats.url
    await nats.stop()


@pytest.fixture(scope="session")
async def api(
    api_settings: Callable[..., Settings], archive_nats: str
) -> AsyncIterator[ApiProcess]:
    """Shared: tests leave nothing in it but images."""
    limits = {"upload_max_bytes": 64 * 1024**2, "upload_silence_s": 3, "upload_stall_s": 2}
    async with api_process(api_settings(archive_nats, **limits)) as api:
        yield api


@pytest.fixture
async def http(api: ApiProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=api.url, timeout=60) as client:
        await log_in(client)
        yield client
