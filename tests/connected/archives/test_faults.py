"""What is wrong with an archive is said by its code, and nothing of it stays."""

from __future__ import annotations

import asyncio
import gzip
import io
import random
import tarfile
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx
import pytest
from backports import zstd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import ImageRejected
from pipeline.images.ingest.ingest import Ingest
from tests.connected.archives.conftest import outcome, pieces
from tests.support.archives.broken_archives import Broken, an_image, broken_archives, legacy
from tests.support.archives.image_archives import docker_archive, oci_archive
from tests.support.archives.images import busybox_image
from tests.support.http.api_process import ORG, ApiProcess
from tests.support.registries.registry_files import RegistryFiles
from tests.support.waiting import eventually

IMAGES = "/yard/v1/images"
TAR = {"Content-Type": "application/x-tar"}
BROKEN = list(broken_archives())
GROWTH_MIB = 64


@pytest.fixture
async def clean(files: RegistryFiles, http: httpx.AsyncClient) -> AsyncIterator[None]:
    """The test leaves no image, tag or open upload that was not there before it."""
    before = await traces(files, http)
    yield
    assert await traces(files, http) == before


async def traces(files: RegistryFiles, http: httpx.AsyncClient) -> object:
    records = [
        item["uuid"]
        for status in ("PENDING", "UPLOADING", "VALIDATING", "READY", "FAILED", "DELETED")
        for item in (await http.get(IMAGES, params={"status": status})).json()["items"]
    ]
    tags = {name: files.tags(name) for name in files.repositories(f"images/{ORG}")}
    return records, tags, files.open_uploads(f"layers/{ORG}")


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
async def test_every_fault_has_its_code(
    broken: Broken, http: httpx.AsyncClient, clean: None
) -> None:
    answer = await http.post(IMAGES, content=broken.archive, headers=TAR)
    assert (answer.status_code, answer.json()["code"]) == (422, broken.code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]


async def test_several_images_are_listed_by_their_tags(http: httpx.AsyncClient) -> None:
    [two] = [broken for broken in BROKEN if broken.name == "two images"]
    answer = await http.post(IMAGES, content=two.archive, headers=TAR)
    assert answer.json()["tags"] == ["team/a:1", "team/b:1"]
    unknown = {"repoTag": "team/c:1"}
    answer = await http.post(IMAGES, content=two.archive, headers=TAR, params=unknown)
    assert answer.json()["code"] == "image_ambiguous"
    answer = await http.post(
        IMAGES, content=two.archive, headers=TAR, params={"repoTag": "team/b:1"}
    )
    assert answer.status_code == 201


async def test_another_platform_than_the_one_asked_for_is_wrong(
    http: httpx.AsyncClient, clean: None
) -> None:
    archive = docker_archive(busybox_image(), "team/model:1")
    asked = {"platform": "linux/arm64"}
    answer = await http.post(IMAGES, content=archive, headers=TAR, params=asked)
    assert (answer.status_code, answer.json()["code"]) == (422, "wrong_platform")
    answer = await http.post(
        IMAGES, content=archive, headers=TAR, params={"platform": "no/such/p/x"}
    )
    assert answer.status_code == 422


async def test_an_archive_over_the_maximum_is_refused_before_it_is_read(
    http: httpx.AsyncClient, clean: None
) -> None:
    sent = 0

    async def content() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(65):
            sent += 1
            yield bytes(1024 * 1024)

    declared = TAR | {"Content-Length": str(65 * 1024**2), "Expect": "100-continue"}
    answer = await http.post(IMAGES, content=content(), headers=declared)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


async def test_an_archive_of_unknown_length_is_refused_where_it_crosses_the_maximum(
    http: httpx.AsyncClient, clean: None
) -> None:
    async def content() -> AsyncIterator[bytes]:
        with_noise = docker_archive(an_image(), "team/model:1")
        yield with_noise[:1024]
        for _ in range(65):
            yield bytes(1024 * 1024)

    answer = await http.post(IMAGES, content=content(), headers=TAR)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def bombs() -> dict[str, bytes]:
    zeros = bytes(300 * 1024**2)
    outer = io.BytesIO()
    with tarfile.open(fileobj=outer, mode="w") as tar:
        entry = tarfile.TarInfo("zeros")
        entry.size = len(zeros)
        tar.addfile(entry, io.BytesIO(zeros))
    image = busybox_image()
    layer = gzip.compress(zeros, compresslevel=1)
    return {
        "gzip": gzip.compress(outer.getvalue(), compresslevel=1),
        "zstd": zstd.compress(outer.getvalue()),
        "layer of gzip": legacy(image, layers=[layer]),
        "layer of zstd": legacy(image, layers=[zstd.compress(zeros)]),
    }


async def test_bombs_are_refused_and_fill_no_memory(
    http: httpx.AsyncClient, api: ApiProcess, clean: None
) -> None:
    archives = bombs()
    before = api.rss_mib
    for name, bomb in archives.items():
        answer = await http.post(IMAGES, content=bomb, headers=TAR)
        assert (answer.status_code, answer.json()["code"]) == (422, "archive_bomb"), name
    assert api.rss_mib - before < GROWTH_MIB


async def test_zeros_below_a_quarter_of_a_gibibyte_are_no_bomb(http: httpx.AsyncClient) -> None:
    image = busybox_image(random_layers=(), labels={"zeros": "yes"})
    archive = legacy(image, before_manifest=lambda tar: tar.add("zeros", bytes(200 * 1024**2)))
    answer = await http.post(IMAGES, content=gzip.compress(archive, compresslevel=1), headers=TAR)
    assert answer.status_code == 201, answer.text


async def test_a_sender_who_vanishes_leaves_nothing(
    http: httpx.AsyncClient, api: ApiProcess, files: RegistryFiles, clean: None
) -> None:
    async def under_way() -> set[str]:
        items = (await http.get(IMAGES, params={"status": "UPLOADING"})).json()["items"]
        return {item["uuid"] for item in items}

    async def is_listed() -> bool:
        return bool(await under_way() - before)

    async def is_gone() -> bool:
        return not await is_listed()

    before = await under_way()
    archive = docker_archive(an_image(), "team/model:1")
    _, writer = await posting(http, api, archive, archive[:-600_000])
    await eventually(lambda: bool(files.open_uploads(f"layers/{ORG}")))
    await eventually(is_listed)
    writer.transport.abort()
    await eventually(lambda: not files.open_uploads(f"layers/{ORG}"))
    await eventually(is_gone)


async def test_a_silent_sender_is_given_up(
    http: httpx.AsyncClient, api: ApiProcess, clean: None
) -> None:
    archive = docker_archive(an_image(), "team/model:1")
    reader, writer = await posting(http, api, archive, archive[:-600_000])
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
    assert answer.startswith(b"HTTP/1.1 422 ")
    assert b"tar_truncated" in await asyncio.wait_for(reader.read(1000), 30)
    writer.transport.abort()


async def posting(
    http: httpx.AsyncClient, api: ApiProcess, archive: bytes, sent: bytes
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which `archive` was announced, and `sent` of it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.settings.api_port)
    head = (
        f"POST {IMAGES} HTTP/1.1\r\nHost: yard\r\nContent-Type: application/x-tar\r\n"
        f"Authorization: {http.headers['authorization']}\r\n"
        f"Content-Length: {len(archive)}\r\n\r\n"
    )
    writer.write(head.encode() + sent)
    await writer.drain()
    return reader, writer


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(which=st.integers(0, 2), seed=st.integers(0, 2**32), step=st.sampled_from([999, 65536]))
def test_damage_of_any_kind_is_taken_in_or_refused_as_an_image(
    which: int, seed: int, step: int, ingest: Ingest, org: str, files: RegistryFiles
) -> None:
    archive = damage(WHOLE[which], seed)

    async def attempt() -> None:
        with suppress(ImageRejected):
            await outcome(ingest, pieces(archive, step), org)

    asyncio.run(attempt())
    assert files.open_uploads(f"layers/{org}") == []


WHOLE = [
    docker_archive(busybox_image(random_layers=(1_100_000,)), "team/model:1"),
    oci_archive(busybox_image(random_layers=(1_100_000,)), "team/model:1"),
    gzip.compress(docker_archive(busybox_image(), "team/model:1", layout="modern"), 1),
]


def damage(archive: bytes, seed: int) -> bytes:
    """Bytes changed, blocks removed, repeated, cut off or overwritten."""
    rng = random.Random(seed)
    changed = bytearray(archive)
    for _ in range(rng.randint(1, 4)):
        block = rng.randrange(len(changed) // 512 + 1) * 512
        match rng.randrange(5):
            case 0:
                at = min(block + rng.randrange(512), len(changed) - 1)
                changed[at] ^= rng.randrange(1, 256)
            case 1:
                del changed[block : block + 512 * rng.randint(1, 4)]
            case 2:
                changed[block:block] = changed[block : block + 512]
            case 3:
                del changed[max(1, block) :]
            case 4:
                changed[block : block + 512] = rng.randbytes(512)
        if not changed:
            return b"\0"
    return bytes(changed)


async def test_damaged_archives_are_taken_in_or_refused_and_nothing_else(
    http: httpx.AsyncClient, api: ApiProcess, files: RegistryFiles
) -> None:
    before = api.rss_mib
    for seed in range(30):
        archive = damage(WHOLE[seed % len(WHOLE)], seed)
        answer = await http.post(IMAGES, content=archive, headers=TAR)
        assert answer.status_code in (201, 422), (seed, answer.text)
    assert files.open_uploads(f"layers/{ORG}") == []
    assert api.rss_mib - before < GROWTH_MIB
