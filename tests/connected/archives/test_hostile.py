"""Whatever is sent: an image or a refusal that says why, and of a refusal nothing stays."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, event, given, settings

from pipeline.errors import ArchiveBomb
from pipeline.settings import Settings
from tests.connected.archives.conftest import Receive
from tests.support.archives.hostile_archives import Hostile, hostile_archives
from tests.support.archives.image_archives import docker_archive
from tests.support.archives.images import busybox_image
from tests.support.http.api_process import ORG, ApiProcess, api_process, log_in
from tests.support.registries.registry_files import RegistryFiles

IMAGES = "/yard/v1/images"
TAR = {"Content-Type": "application/x-tar"}
GROWTH_MIB = 64
NAME = "hostile"


@pytest.fixture(scope="module")
async def own_api(
    api_settings: Callable[..., Settings], archive_nats: str
) -> AsyncIterator[ApiProcess]:
    """For itself: how much it grows is looked at."""
    async with api_process(api_settings(archive_nats)) as api:
        async with httpx.AsyncClient(base_url=api.url, timeout=60) as http:
            await log_in(http)
            # What it needs once counts for nobody.
            for name in ("first", "second"):
                archive = docker_archive(busybox_image(random_layers=(4_000_000,)), f"{name}:1")
                (await http.post(IMAGES, content=archive, headers=TAR)).raise_for_status()
        yield api


@pytest.fixture
async def sync_http(own_api: ApiProcess) -> AsyncIterator[httpx.Client]:
    async with httpx.AsyncClient(base_url=own_api.url, timeout=30) as http:
        token = await log_in(http)
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=own_api.url, headers=headers, timeout=60) as client:
        yield client


def left(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.large_base_example,
    ],
)
@given(hostile=hostile_archives())
def test_a_hostile_archive_is_taken_in_or_refused_and_leaves_nothing(
    hostile: Hostile, sync_http: httpx.Client, own_api: ApiProcess, files: RegistryFiles
) -> None:
    repository = f"images/{ORG}/{NAME}"
    tags, kept = files.tags(repository), set(left(own_api.settings.state))
    before = own_api.rss_mib
    answer = sync_http.post(IMAGES, content=hostile.archive, headers=TAR, params={"name": NAME})
    assert answer.status_code in (201, 422), (answer.text, hostile.made_of)
    if answer.status_code == 422:
        problem = answer.json()
        event(problem["code"])
        assert problem["code"], hostile.made_of
        assert problem["detail"].endswith("."), (problem["detail"], hostile.made_of)
        assert files.tags(repository) == tags, hostile.made_of
    assert files.open_uploads(f"layers/{ORG}") == [], hostile.made_of
    assert set(left(own_api.settings.state)) == kept, hostile.made_of
    assert own_api.rss_mib - before < GROWTH_MIB, hostile.made_of


@pytest.mark.parametrize("limits", [{"upload_max_expanded_bytes": 4_000_000}])
async def test_an_archive_that_opens_to_more_than_is_allowed_is_a_bomb(receive: Receive) -> None:
    await receive(docker_archive(busybox_image(), "team/small:1"))
    with pytest.raises(ArchiveBomb):
        await receive(docker_archive(busybox_image(random_layers=(4_000_000,)), "team/large:1"))
