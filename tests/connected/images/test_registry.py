"""The registry client against the real `docker-registry`, open and behind a password."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.adapters.http.guarded import GuardedHttp
from pipeline.adapters.http.resolving import Rules
from pipeline.adapters.registry.client import RegistryClient
from pipeline.errors import (
    AddressRefused,
    ImageRejected,
    ManifestNotFound,
    RegistryDenied,
    RegistryUnavailable,
)
from pipeline.images import findings
from pipeline.oci import references
from pipeline.ports import Credentials, ResolvedImage
from pipeline.stack.pieces.registry import RegistryPiece
from tests.support.archives.image_delivery import push, push_index
from tests.support.archives.images import HEALTHCHECK, PORT, Media, busybox_image
from tests.support.registries.locked_registry import PASSWORD, USER, LockedRegistry
from tests.support.registries.registry_world import has_blob
from tests.support.systems.services import Services


@pytest.fixture
async def client() -> AsyncIterator[RegistryClient]:
    async with GuardedHttp.open(Rules(allow_local=True)) as http:
        yield RegistryClient(http)


@pytest.fixture
async def locked_host(services: Services, tmp_path: Path) -> AsyncIterator[str]:
    """A registry with `team/model:1` behind a password."""
    registry = LockedRegistry(tmp_path, port=services.registry().port)
    await registry.start()
    try:
        push(busybox_image(), registry.host, "team/model", "1")
        registry.locked = True
        await registry.restart()
        yield registry.host
    finally:
        await registry.stop()


async def resolve(client: RegistryClient, reference: str, **options: Any) -> ResolvedImage:
    return await client.resolve(references.parse(reference), **options)


@pytest.mark.parametrize("media", ["oci", "docker"])
async def test_a_real_image_is_resolved(
    client: RegistryClient, registry_host: str, media: Media
) -> None:
    image = busybox_image(healthcheck=HEALTHCHECK, labels={"a": "b"}, random_layers=[1000])
    digest = push(image, registry_host, f"real/{media}", "1", media=media)
    found = await resolve(client, f"{registry_host}/real/{media}:1")
    assert found.digest == digest
    assert found.config_digest == image.id
    assert found.size_bytes == image.size_bytes
    assert found.needs.ports == [PORT]
    assert (found.missing, found.labels, found.has_healthcheck) == ((), {"a": "b"}, True)
    assert [finding.code for finding in findings.examine(found)] == ["runs_as_root"]
    again = await resolve(client, f"{registry_host}/real/{media}@{digest}")
    assert again.digest == digest


async def test_of_a_real_index_the_platform_is_chosen(
    client: RegistryClient, registry_host: str
) -> None:
    images = {name: busybox_image(platform=name) for name in ("linux/arm64", "linux/amd64")}
    push_index(images, registry_host, "real/index", "1")
    for wanted, name in [(None, "linux/amd64"), ("linux/arm64", "linux/arm64")]:
        found = await resolve(client, f"{registry_host}/real/index:1", platform=wanted)
        assert found.config_digest == images[name].id
    with pytest.raises(ImageRejected, match=r"linux/amd64, linux/arm64, not for linux/s390x"):
        await resolve(client, f"{registry_host}/real/index:1", platform="linux/s390x")


async def test_a_deleted_layer_is_missing(client: RegistryClient, registry_host: str) -> None:
    image = busybox_image(random_layers=[100], seed=7)
    push(image, registry_host, "real/broken", "1")
    lost = image.layers[1].digest
    async with httpx.AsyncClient() as http:
        blob = f"http://{registry_host}/v2/real/broken/blobs/{lost}"
        (await http.delete(blob)).raise_for_status()
    found = await resolve(client, f"{registry_host}/real/broken:1")
    assert found.missing == (lost,)
    assert not await has_blob(client, registry_host, "real/broken", lost)
    assert await has_blob(client, registry_host, "real/broken", image.id)


async def test_absent_tags_and_repositories_are_not_found(
    client: RegistryClient, registry_host: str
) -> None:
    push(busybox_image(), registry_host, "real/there", "1")
    for reference in ("real/there:2", "real/nowhere:1", f"real/there@sha256:{'0' * 64}"):
        with pytest.raises(ManifestNotFound):
            await resolve(client, f"{registry_host}/{reference}")


async def test_tags_and_repositories_are_listed(client: RegistryClient, registry_host: str) -> None:
    for tag in ("1", "2", "3"):
        push(busybox_image(), registry_host, "real/listed", tag)
    # In no order: this registry keeps none.
    assert set(await client.tags(registry_host, "real/listed", most=10)) == {"1", "2", "3"}
    assert len(await client.tags(registry_host, "real/listed", most=2)) == 2
    assert "real/listed" in await client.catalog(registry_host, most=1000)


async def test_a_moved_tag_is_noticed(client: RegistryClient, registry_host: str) -> None:
    first = push(busybox_image(), registry_host, "real/moving", "1")
    assert (await resolve(client, f"{registry_host}/real/moving:1")).digest == first
    second = push(busybox_image(labels={"moved": "yes"}), registry_host, "real/moving", "1")
    assert (await resolve(client, f"{registry_host}/real/moving:1")).digest == second


async def test_an_open_registry_is_healthy(client: RegistryClient, registry_host: str) -> None:
    health = await client.ping(f"http://{registry_host}")
    assert (health.status_code, health.oci, health.auth_required) == (200, True, False)


async def test_without_the_password_nothing_is_told(
    client: RegistryClient, locked_host: str
) -> None:
    wrong = Credentials(locked_host, USER, "wrong")
    elsewhere = Credentials("127.0.0.1:1", USER, PASSWORD)
    for credentials in (None, wrong, elsewhere):
        for tag in ("1", "absent"):
            with pytest.raises(RegistryDenied):
                await resolve(client, f"{locked_host}/team/model:{tag}", credentials=credentials)


async def test_with_the_password_everything_is_told(
    client: RegistryClient, locked_host: str
) -> None:
    secret = Credentials(locked_host, USER, PASSWORD)
    found = await resolve(client, f"{locked_host}/team/model:1", credentials=secret)
    assert found.missing == ()
    with pytest.raises(ManifestNotFound):
        await resolve(client, f"{locked_host}/team/model:absent", credentials=secret)
    assert await client.tags(locked_host, "team/model", credentials=secret, most=9) == ["1"]
    with pytest.raises(RegistryDenied):
        await resolve(client, f"{locked_host}/team/model:1")


@pytest.mark.parametrize(("password", "accepted"), [(PASSWORD, True), ("wrong", False)])
async def test_the_health_of_a_locked_registry(
    client: RegistryClient, locked_host: str, password: str, accepted: bool
) -> None:
    health = await client.ping(
        f"http://{locked_host}", credentials=Credentials(locked_host, USER, password)
    )
    assert (health.status_code, health.oci, health.auth_required) == (401, True, True)
    assert health.credentials_ok is accepted


async def test_many_looks_at_once_share_connections(
    client: RegistryClient, registry_host: str
) -> None:
    image = busybox_image(random_layers=[10] * 6, seed=3)
    for number in range(3):
        push(image, registry_host, f"real/many{number}", "1")
    found = await asyncio.gather(
        *(resolve(client, f"{registry_host}/real/many{number}:1") for number in range(3))
    )
    assert {one.missing for one in found} == {()}


async def test_a_stopped_registry_is_unavailable_and_works_again_when_restarted(
    client: RegistryClient, own_registry: RegistryPiece
) -> None:
    push(busybox_image(), own_registry.host, "team/model", "1")
    await resolve(client, f"{own_registry.host}/team/model:1")
    await own_registry.stop()
    with pytest.raises(RegistryUnavailable) as caught:
        await resolve(client, f"{own_registry.host}/team/model:1")
    assert caught.value.facts["kind"] in ("refused", "protocol")
    await own_registry.start()
    await resolve(client, f"{own_registry.host}/team/model:1")


async def test_loopback_needs_the_setting(registry_host: str) -> None:
    async with GuardedHttp.open(Rules(allow_local=False)) as http:
        with pytest.raises(AddressRefused):
            await resolve(RegistryClient(http), f"{registry_host}/team/model:1")
