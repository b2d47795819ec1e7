"""Pulls by a real engine, from a real registry and from one that stops when a test wants."""

from __future__ import annotations

import asyncio
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pipeline.adapters.engine.docker import DockerEngine
from pipeline.errors import DiskFull, PullDenied, PullFailed, PullImpossible
from pipeline.ports import Credentials
from tests.support.archives.image_delivery import push, push_index
from tests.support.archives.images import TinyImage, busybox_image
from tests.support.registries.gated_registry import PASSWORD, USER, GatedRegistry
from tests.support.systems.services import Services

MIB = 1 << 20


class Watch:
    """Takes the progress of a pull."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int | None]] = []

    async def __call__(self, done: int, total: int | None) -> None:
        self.seen.append((done, total))


@pytest.fixture
async def engine(docker_host: str) -> AsyncIterator[DockerEngine]:
    async with DockerEngine.open(docker_host) as engine:
        yield engine


def fresh_image(*sizes: int) -> TinyImage:
    """One whose layers no engine has seen."""
    return busybox_image(random_layers=sizes, seed=uuid.uuid4().int % 10**9)


async def pull(
    engine: DockerEngine,
    reference: str,
    *,
    credentials: Credentials | None = None,
    platform: str | None = None,
    stall_s: float = 30,
    progress: Watch | None = None,
) -> str:
    return await engine.pull(
        reference,
        credentials=credentials,
        platform=platform,
        stall_s=stall_s,
        progress=progress or Watch(),
    )


async def test_a_pull_reports_bytes_that_never_fall(
    engine: DockerEngine, registry_host: str
) -> None:
    image = fresh_image(3 * MIB, 2 * MIB)
    digest = await asyncio.to_thread(push, image, registry_host, "pull/progress", "1")
    reference, watch = f"{registry_host}/pull/progress:1", Watch()
    assert await pull(engine, reference, progress=watch) == image.id
    done = [one for one, _ in watch.seen]
    assert done == sorted(done)
    final_done, final_total = watch.seen[-1]
    assert final_total == final_done >= 5 * MIB
    assert await engine.image_id(reference) == image.id
    assert digest in await engine.image_digests()


async def test_a_pull_of_what_is_there_costs_no_bytes(
    engine: DockerEngine, registry_host: str
) -> None:
    await asyncio.to_thread(push, busybox_image(), registry_host, "pull/again", "1")
    await pull(engine, f"{registry_host}/pull/again:1")
    watch = Watch()
    assert await pull(engine, f"{registry_host}/pull/again:1", progress=watch)
    assert {done for done, _ in watch.seen} == {0}


@pytest.mark.parametrize("tag", ["", ":1"])
async def test_a_pull_by_digest_leaves_no_tag(
    engine: DockerEngine, registry_host: str, tag: str
) -> None:
    image = fresh_image(1000)
    digest = await asyncio.to_thread(push, image, registry_host, "pull/digest", "1")
    name = f"{registry_host}/pull/digest"
    assert await pull(engine, f"{name}{tag}@{digest}") == image.id
    assert await engine.image_id(f"{name}@{digest}") == image.id
    assert await engine.image_id(f"{name}:1") is None


async def test_the_platform_is_picked_from_an_index(
    engine: DockerEngine, registry_host: str
) -> None:
    images = {p: busybox_image(platform=p) for p in ("linux/amd64", "linux/arm64")}
    await asyncio.to_thread(push_index, images, registry_host, "pull/index", "1")
    reference = f"{registry_host}/pull/index:1"
    assert await pull(engine, reference, platform="linux/arm64") == images["linux/arm64"].id
    with pytest.raises(PullImpossible) as caught:
        await pull(engine, reference, platform="linux/s390x")
    assert caught.value.facts["reason"] == "platform"


async def test_an_image_that_the_registry_lacks_is_not_worth_a_retry(
    engine: DockerEngine, registry_host: str
) -> None:
    with pytest.raises(PullImpossible) as caught:
        await pull(engine, f"{registry_host}/pull/none:1")
    assert caught.value.facts["reason"] == "not_found"


async def test_a_registry_that_is_not_there_is_worth_a_retry(engine: DockerEngine) -> None:
    with pytest.raises(PullFailed) as caught:
        await pull(engine, "127.0.0.1:1/pull/none:1")
    assert caught.value.retryable


async def test_credentials_open_a_private_registry(engine: DockerEngine) -> None:
    async with GatedRegistry.open(fresh_image(1000), login=True) as registry:
        registry.gate.set()
        server = registry.reference.partition("/")[0]
        with pytest.raises(PullDenied):
            await pull(engine, registry.reference)
        with pytest.raises(PullDenied) as caught:
            await pull(engine, registry.reference, credentials=Credentials(server, USER, "wrong"))
        assert "wrong" not in f"{caught.value} {caught.value.facts}"
        assert await pull(
            engine, registry.reference, credentials=Credentials(server, USER, PASSWORD)
        )


async def test_a_pull_that_stalls_fails_and_can_be_repeated(engine: DockerEngine) -> None:
    """Repeating it fetches anew: the engine gave up what stalled."""
    image = fresh_image(MIB)
    async with GatedRegistry.open(image) as registry:
        with pytest.raises(PullFailed, match="stalled") as caught:
            await pull(engine, registry.reference, stall_s=0.5)
        assert caught.value.facts["reason"] == "stalled"
        assert await engine.image_id(registry.reference) is None
        registry.stalls = False
        assert await pull(engine, registry.reference) == image.id


async def test_a_registry_that_never_answers_is_a_stall(engine: DockerEngine) -> None:
    async with GatedRegistry.open(fresh_image(), silent=True) as registry:
        with pytest.raises(PullFailed, match="stalled"):
            await pull(engine, registry.reference, stall_s=0.5)


async def test_a_cancelled_pull_leaves_no_tag(engine: DockerEngine) -> None:
    """Also not when the rest of the layer comes afterwards."""
    async with GatedRegistry.open(fresh_image(MIB)) as registry:
        task = asyncio.ensure_future(pull(engine, registry.reference))
        await registry.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        registry.gate.set()
        await registry.sent.wait()
        assert await engine.image_id(registry.reference) is None


async def test_a_full_disk_is_told_and_leaves_no_tag(
    services: Services, registry_host: str, small_disk: Path
) -> None:
    reference = f"{registry_host}/pull/large:1"
    await asyncio.to_thread(push, fresh_image(40 * MIB), registry_host, "pull/large", "1")
    daemon = services.dockerd()
    daemon.folder.mkdir(parents=True)
    daemon.folder.joinpath("data").symlink_to(small_disk)
    await daemon.start()
    async with DockerEngine.open(daemon.host) as engine:
        with pytest.raises(DiskFull):
            await pull(engine, reference)
        assert await engine.image_id(reference) is None
    await daemon.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """24 MiB, in memory."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", tmp_path], check=True)
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)
