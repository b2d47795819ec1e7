"""Archives of every layout become images that an engine pulls and runs."""

from __future__ import annotations

import asyncio
import gzip
import json
import subprocess
from collections.abc import AsyncIterator, Callable

import pytest
import zstandard

from pipeline.core.ingest import Ingest
from pipeline.core.ingested import Wish
from pipeline.errors import DigestMismatch, ImageIncomplete, TarTruncated
from tests.connected.archives.conftest import Receive, ignored, nothing, pieces
from tests.support.archive_layouts import (
    blob_path,
    listing,
    oci_layout,
    oci_manifest,
    skopeo_docker_archive,
)
from tests.support.broken_archives import an_image
from tests.support.image_archives import docker_archive, oci_archive
from tests.support.images import TinyImage, bare, busybox_image, canonical, prints, sha256
from tests.support.registry_files import RegistryFiles
from tests.support.tars import Tar

SAYING = busybox_image(command=prints("it runs"), random_layers=(1_500_000, 3000), seed=11)
ARM = busybox_image(command=prints("it runs"), platform="linux/arm64", seed=11)
TAG = "team/model:1"

LAYOUTS: dict[str, Callable[[], bytes]] = {
    "docker save, legacy": lambda: docker_archive(SAYING, TAG),
    "docker save 25": lambda: docker_archive(SAYING, TAG, layout="modern"),
    "skopeo docker-archive": lambda: skopeo_docker_archive(SAYING, TAG),
    "oci-archive, gzip": lambda: oci_archive(SAYING, TAG),
    "oci-archive, plain": lambda: oci_layout({"linux/amd64": SAYING}, packing="none", tag=TAG),
    "oci-archive, zstd": lambda: oci_layout({"linux/amd64": SAYING}, packing="zstd", tag=TAG),
    "gzip": lambda: gzip.compress(docker_archive(SAYING, TAG), compresslevel=1),
    "gzip, two members": lambda: _two_members(docker_archive(SAYING, TAG)),
    "zstd": lambda: zstandard.ZstdCompressor().compress(docker_archive(SAYING, TAG)),
    "manifest first": lambda: oci_layout({"linux/amd64": SAYING}, tag=TAG, first=True),
    "several platforms": lambda: oci_layout(
        {"linux/arm64": ARM, "linux/amd64": SAYING}, tag=TAG, with_attestation=True
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_an_engine_pulls_and_runs_what_came_in(
    layout: str, receive: Receive, docker_host: str, files: RegistryFiles, org: str
) -> None:
    came = await receive(LAYOUTS[layout]())
    assert came.reference == f"{files.host}/images/{org}/team/model:1"
    assert str(came.platform) == "linux/amd64"
    assert came.needs.ports == [8080]
    assert await run(docker_host, came.pinned) == "it runs"
    assert files.open_uploads(f"layers/{org}") == []


async def test_layers_of_zstd_are_stored_as_they_are(
    receive: Receive, files: RegistryFiles
) -> None:
    came = await receive(oci_layout({"linux/amd64": SAYING}, packing="zstd", tag=TAG))
    stored = files.manifest(came.parts.repository, "1")
    assert stored.content == oci_manifest(SAYING, "zstd")


async def test_the_manifest_of_an_oci_archive_keeps_its_digest(receive: Receive) -> None:
    came = await receive(oci_archive(SAYING, TAG))
    assert came.digest == SAYING.digest


async def test_layers_of_a_docker_archive_are_stored_uncompressed(
    receive: Receive, files: RegistryFiles
) -> None:
    came = await receive(docker_archive(SAYING, TAG))
    manifest = files.manifest(came.parts.repository, "1").json()
    assert [layer["digest"] for layer in manifest["layers"]] == [
        layer.diff_id for layer in SAYING.layers
    ]
    assert manifest["config"]["digest"] == SAYING.id
    assert came.size_bytes == len(SAYING.config) + sum(len(one.tar) for one in SAYING.layers)


@pytest.mark.parametrize("step", [1000, 511, 100_003])
async def test_pieces_of_any_size_make_the_same_image(receive: Receive, step: int) -> None:
    came = await receive(docker_archive(SAYING, TAG), step=step)
    assert came.digest == (await receive(docker_archive(SAYING, TAG))).digest


async def test_what_is_there_already_is_not_sent_again(
    receive: Receive, files: RegistryFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await receive(docker_archive(SAYING, TAG, layout="modern"))
    begun = counted_uploads(monkeypatch)
    again = await receive(docker_archive(SAYING, "team/other:2", layout="modern"))
    assert (again.digest, begun) == (first.digest, [])


async def test_another_platform_is_chosen_when_it_is_asked_for(receive: Receive) -> None:
    both = oci_layout({"linux/arm64": ARM, "linux/amd64": SAYING}, tag=TAG)
    came = await receive(both, platform="linux/arm64")
    assert str(came.platform) == "linux/arm64"


async def test_a_platform_whose_blobs_are_absent_is_not_chosen(receive: Receive) -> None:
    images = {"linux/amd64": SAYING, "linux/arm64": ARM}
    came = await receive(oci_layout(images, tag=TAG, absent=("linux/amd64",)))
    assert str(came.platform) == "linux/arm64"


async def test_one_of_several_images_is_chosen_by_its_tag(receive: Receive) -> None:
    other = busybox_image(command=prints("another"))
    with Tar() as tar:
        for name, image in (("a", SAYING), ("b", other)):
            for number, layer in enumerate(image.layers):
                tar.add(f"{name}{number}/layer.tar", layer.tar)
            tar.add(f"{bare(image.id)}.json", image.config)
        paths = {n: [f"{n}{i}/layer.tar" for i in range(3 if n == "a" else 1)] for n in "ab"}
        tar.add(
            "manifest.json",
            listing((SAYING, ("team/a:1",), paths["a"]), (other, ("team/b:2", "b"), paths["b"])),
        )
    came = await receive(tar.content, repo_tag="docker.io/team/b:2")
    assert came.parts.repository.endswith("/team/b")
    assert (came.parts.tag, came.repo_tags) == ("2", ("team/b:2", "b"))


async def test_an_image_without_a_tag_is_called_by_its_digest(receive: Receive) -> None:
    came = await receive(docker_archive(SAYING))
    assert came.parts.repository.endswith(f"/image-{bare(came.digest)[:12]}")
    assert came.parts.tag == "latest"


async def test_a_declared_layer_need_not_be_sent(receive: Receive, docker_host: str) -> None:
    await receive(docker_archive(SAYING, TAG))
    paths = [f"{number}/layer.tar" for number in range(len(SAYING.layers))]
    declared = dict(zip(paths, (layer.diff_id for layer in SAYING.layers), strict=True))
    with Tar() as tar:
        tar.add("modelyard-present.json", canonical(declared))
        tar.add(f"{bare(SAYING.id)}.json", SAYING.config)
        tar.add("manifest.json", listing((SAYING, ("team/again:1",), paths)))
    came = await receive(tar.content)
    assert await run(docker_host, came.pinned) == "it runs"


async def test_a_declared_compressed_layer_is_looked_into(receive: Receive) -> None:
    await receive(oci_archive(SAYING, TAG))
    wrong = json.loads(SAYING.config)
    wrong["rootfs"]["diff_ids"].reverse()
    for config, fits in ((SAYING.config, True), (canonical(wrong), False)):
        image = TinyImage(config, SAYING.layers)
        manifest = image.manifest()
        entry = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": len(manifest)}
        with Tar() as tar:
            named = {blob_path(one.digest): one.digest for one in image.layers}
            tar.add("modelyard-present.json", canonical(named))
            for blob in (config, manifest):
                tar.add(blob_path(sha256(blob)), blob)
            index = {"manifests": [entry | {"digest": sha256(manifest)}], "schemaVersion": 2}
            tar.add("index.json", canonical(index))
        if fits:
            assert (await receive(tar.content)).digest == SAYING.digest
        else:
            with pytest.raises(DigestMismatch):
                await receive(tar.content)


async def test_a_layer_that_is_declared_and_not_there_is_missed(receive: Receive) -> None:
    with Tar() as tar:
        tar.add("modelyard-present.json", canonical({"0/layer.tar": sha256(b"nowhere")}))
        tar.add("manifest.json", b"[]")
    with pytest.raises(ImageIncomplete, match="send it whole"):
        await receive(tar.content)


async def test_layers_of_another_organisation_are_not_there(
    receive: Receive, ingest: Ingest, org: str
) -> None:
    await receive(oci_archive(SAYING, TAG))
    digests = [layer.digest for layer in SAYING.layers]
    assert set(await ingest.present(org, digests)) == set(digests)
    assert await ingest.present("somebody-else", digests) == {}


async def test_a_sender_who_vanishes_leaves_nothing(
    ingest: Ingest, org: str, files: RegistryFiles
) -> None:
    archive = docker_archive(an_image(), TAG)

    async def breaking() -> AsyncIterator[bytes]:
        async for piece in pieces(archive[:-900_000]):
            yield piece
        raise TarTruncated("The sender left.")

    with pytest.raises(TarTruncated):
        await taken(ingest, breaking(), org)
    assert files.open_uploads(f"layers/{org}") == []
    assert files.repositories(f"images/{org}") == []


async def test_being_cancelled_in_the_middle_of_a_layer_leaves_nothing(
    ingest: Ingest, org: str, files: RegistryFiles
) -> None:
    archive, is_stuck = docker_archive(an_image(), TAG), asyncio.Event()

    async def stalling() -> AsyncIterator[bytes]:
        async for piece in pieces(archive[:-900_000]):
            yield piece
        is_stuck.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(taken(ingest, stalling(), org))
    await is_stuck.wait()
    assert files.open_uploads(f"layers/{org}")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert files.open_uploads(f"layers/{org}") == []


async def test_what_is_withdrawn_names_again_what_it_did(
    receive: Receive, ingest: Ingest, org: str, files: RegistryFiles
) -> None:
    first = await receive(docker_archive(SAYING, TAG))
    second = await receive(docker_archive(busybox_image(seed=3), TAG))
    await ingest.withdraw(org, second)
    repository = first.parts.repository
    assert files.manifest(repository, "1").headers["docker-content-digest"] == first.digest
    await ingest.withdraw(org, first)
    assert files.tags(repository) == []


async def taken(ingest: Ingest, stream: AsyncIterator[bytes], org: str) -> None:
    await ingest.receive(
        stream, org=org, wish=Wish(), length=None, progress=ignored, proving=nothing
    )


async def run(docker_host: str, reference: str) -> str:
    """What the image prints on a private engine."""
    process = await asyncio.create_subprocess_exec(
        "docker", "-H", docker_host, "run", "--rm", "--pull", "always", "--quiet", reference,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    said, complained = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, complained.decode()
    return said.decode().strip()


def counted_uploads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by every upload that is begun from now on."""
    from pipeline.adapters.registry_push import Pushing

    begun: list[str] = []
    begin = Pushing.begin

    async def counting(self: Pushing) -> object:
        begun.append("upload")
        return await begin(self)

    monkeypatch.setattr(Pushing, "begin", counting)
    return begun


def _two_members(content: bytes) -> bytes:
    half = len(content) // 2
    return gzip.compress(content[:half]) + gzip.compress(content[half:]) + bytes(100)
