"""Taking in archives: a registry, and a server process with a store and a broker."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing

import httpx
import pytest
from pydantic import SecretStr

from pipeline.adapters.registry.push import RegistryPush
from pipeline.images.ingest.ingest import Ingest, Ingested, Wish
from pipeline.settings import Settings
from pipeline.stack.pieces.registry import RegistryPiece
from tests.support.http.api_process import ApiProcess, api_process, log_in, settings
from tests.support.registries.platform_registry import KEYS, tokens
from tests.support.registries.registry_files import RegistryFiles
from tests.support.systems.services import Services

Receive = Callable[..., Awaitable[Ingested]]


@pytest.fixture(scope="session")
def files(platform_registry: RegistryPiece) -> RegistryFiles:
    return RegistryFiles(platform_registry.host, platform_registry.folder)


@pytest.fixture
def org() -> str:
    """Of one test: nobody else's layers are in its pool."""
    return f"o-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def limits() -> dict[str, int]:
    """Settings of the ingest, for tests that want others."""
    return {}


@pytest.fixture
def ingest(platform_registry: RegistryPiece, limits: dict[str, int]) -> Iterator[Ingest]:
    host = platform_registry.host
    given = Settings(registry=host, **limits)  # type: ignore[arg-type]
    with Ingest.open(RegistryPush(tokens(host)), given) as ingest:
        yield ingest


@pytest.fixture
def receive(ingest: Ingest, org: str) -> Receive:
    """Takes in bytes, in pieces of `step`."""

    async def receive(archive: bytes, *, step: int = 65536, **wish: str) -> Ingested:
        return await outcome(ingest, pieces(archive, step), org, **wish)

    return receive


async def outcome(ingest: Ingest, stream: AsyncIterator[bytes], org: str, **wish: str) -> Ingested:
    """Of an archive that nobody keeps a record of."""
    async with aclosing(ingest.receive(stream, org=org, wish=Wish(**wish))) as steps:
        found = [step async for step in steps]
    assert isinstance(found[-1], Ingested)
    return found[-1]


async def pieces(archive: bytes, step: int = 65536) -> AsyncIterator[bytes]:
    for at in range(0, len(archive), step):
        yield archive[at : at + step]


@pytest.fixture(scope="session")
def api_settings(
    tmp_path_factory: pytest.TempPathFactory, mongo_url: str, platform_registry: RegistryPiece
) -> Callable[..., Settings]:
    def made(nats_url: str, **given: object) -> Settings:
        where: dict[str, object] = {"state": tmp_path_factory.mktemp("state")}
        where |= {"registry": platform_registry.host, "registry_keys": SecretStr(KEYS)}
        where["progress_interval_s"] = 0
        return settings(nats_url, mongo_url, **where | given)

    return made


@pytest.fixture(scope="package")
async def archive_nats(services: Services) -> AsyncIterator[str]:
    nats = services.nats()
    await nats.start()
    yield nats.url
    await nats.stop()


@pytest.fixture(scope="package")
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
