"""Archives of every layout become images that an engine pulls and runs."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import json
import lzma
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from pipeline.adapters.registry.tokens import PULL, Access
from pipeline.errors import DigestMismatch, ImageIncomplete, TarTruncated
from pipeline.images.ingest.ingest import Arrived, Complete, Ingest, IngestStep, Wish
from pipeline.oci import references
from tests.connected.archives.conftest import Receive, outcome, pieces
from tests.support.archives.archive_layouts import (
    blob_path,
    listing,
    oci_layout,
    oci_manifest,
    skopeo_docker_archive,
)
from tests.support.archives.broken_archives import an_image
from tests.support.archives.image_archives import docker_archive, oci_archive
from tests.support.archives.images import TinyImage, bare, busybox_image, canonical, prints, sha256
from tests.support.archives.tars import Tar
from tests.support.registries.platform_registry import tokens
from tests.support.registries.registry_files import RegistryFiles

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
    "zstd": lambda: zstd.compress(docker_archive(SAYING, TAG)),
    "xz": lambda: lzma.compress(docker_archive(SAYING, TAG), preset=0),
    "bzip2": lambda: bz2.compress(docker_archive(SAYING, TAG), compresslevel=1),
    "no end mark": lambda: unended(docker_archive(SAYING, TAG)),
    "no end mark, gzip": lambda: gzip.compress(unended(docker_archive(SAYING, TAG)), 1),
    "unusual configuration": lambda: oci_layout(
        {"linux/amd64": SAYING}, tag=TAG, config_type="application/octet-stream"
    ),
    "manifest first": lambda: oci_layout({"linux/amd64": SAYING}, tag=TAG, first=True),
    "several platforms": lambda: oci_layout(
        {"linux/arm64": ARM, "linux/amd64": SAYING}, tag=TAG, with_attestation=True
    ),
}


def unended(archive: bytes) -> bytes:
    """Without the blocks of zeros at the end, and without the padding of the last entry."""
    return archive.rstrip(b"\0")


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_an_engine_pulls_and_runs_what_came_in(
    layout: str, receive: Receive, docker_host: str, files: RegistryFiles, org: str
) -> None:
    came = await receive(LAYOUTS[layout]())
    assert came.reference == f"{files.host}/images/{org}/team/model:1"
    assert str(came.image.platform) == "linux/amd64"
    assert came.image.needs.ports == [8080]
    assert await run(docker_host, came.image.pinned) == "it runs"
    assert files.open_uploads(f"layers/{org}") == []


async def test_layers_of_zstd_are_stored_as_they_are(
    receive: Receive, files: RegistryFiles
) -> None:
    came = await receive(oci_layout({"linux/amd64": SAYING}, packing="zstd", tag=TAG))
    stored = files.manifest(came.image.parts.repository, "1")
    assert stored.content == oci_manifest(SAYING, "zstd")


async def test_the_manifest_of_an_oci_archive_keeps_its_digest(receive: Receive) -> None:
    came = await receive(oci_archive(SAYING, TAG))
    assert came.image.digest == SAYING.digest


async def test_layers_of_a_docker_archive_are_stored_uncompressed(
    receive: Receive, files: RegistryFiles
) -> None:
    came = await receive(docker_archive(SAYING, TAG))
    manifest = files.manifest(came.image.parts.repository, "1").json()
    assert [layer["digest"] for layer in manifest["layers"]] == [
        layer.diff_id for layer in SAYING.layers
    ]
    assert manifest["config"]["digest"] == SAYING.id
    assert came.image.size_bytes == len(SAYING.config) + sum(len(one.tar) for one in SAYING.layers)


@pytest.mark.parametrize("step", [1000, 511, 100_003])
async def test_pieces_of_any_size_make_the_same_image(receive: Receive, step: int) -> None:
    came = await receive(docker_archive(SAYING, TAG), step=step)
    assert came.image.digest == (await receive(docker_archive(SAYING, TAG))).image.digest


async def test_what_is_there_already_is_not_sent_again(
    receive: Receive, files: RegistryFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await receive(docker_archive(SAYING, TAG, layout="modern"))
    begun = counted_uploads(monkeypatch)
    again = await receive(docker_archive(SAYING, "team/other:2", layout="modern"))
    assert (again.image.digest, begun) == (first.image.digest, [])


async def test_another_platform_is_chosen_when_it_is_asked_for(receive: Receive) -> None:
    both = oci_layout({"linux/arm64": ARM, "linux/amd64": SAYING}, tag=TAG)
    came = await receive(both, platform="linux/arm64")
    assert str(came.image.platform) == "linux/arm64"


async def test_a_platform_whose_blobs_are_absent_is_not_chosen(receive: Receive) -> None:
    images = {"linux/amd64": SAYING, "linux/arm64": ARM}
    came = await receive(oci_layout(images, tag=TAG, absent=("linux/amd64",)))
    assert str(came.image.platform) == "linux/arm64"


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("linux/amd64", {}),
        ("linux/arm64", {}),
        (None, {}),
        (None, {"platform": {"os": "", "architecture": ""}, "mediaType": None}),
    ],
)
async def test_where_the_index_of_an_archive_is_silent_configurations_tell(
    receive: Receive, wanted: str | None, told: dict[str, Any]
) -> None:
    images = {"linux/arm64": ARM, "linux/amd64": SAYING}
    archive = oci_layout(images, tag=TAG, told=told, with_attestation=True)
    came = await receive(archive, platform=wanted)
    assert str(came.image.platform) == (wanted or "linux/amd64")


async def test_where_a_configuration_is_silent_the_index_of_the_archive_tells(
    receive: Receive,
) -> None:
    config = json.loads(SAYING.config) | {"architecture": ""}
    silent = TinyImage(canonical(config), SAYING.layers)
    came = await receive(oci_layout({"linux/amd64": silent}, tag=TAG))
    assert str(came.image.platform) == "linux/amd64"


@pytest.mark.parametrize("kind", ["application/json", "text/html", "", None])
async def test_an_archive_may_call_its_configuration_otherwise(
    receive: Receive, kind: str | None
) -> None:
    archive = oci_layout({"linux/amd64": SAYING}, tag=TAG, config_type=kind)
    assert (await receive(archive)).image.command


async def test_an_artifact_that_its_content_alone_tells_is_left_beside_the_image(
    receive: Receive,
) -> None:
    chart = TinyImage(canonical({"name": "chart"}), SAYING.layers)
    both = {"linux/arm64": chart, "linux/amd64": SAYING}
    archive = oci_layout(both, tag=TAG, told={}, config_type="application/json")
    assert (await receive(archive)).image.digest == sha256(
        oci_manifest(SAYING, "gzip", "application/json")
    )


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
    assert came.image.parts.repository.endswith("/team/b")
    assert (came.image.parts.tag, came.repo_tags) == ("2", ("team/b:2", "b"))


async def test_an_image_without_a_tag_is_called_by_its_digest(receive: Receive) -> None:
    came = await receive(docker_archive(SAYING))
    assert came.image.parts.repository.endswith(f"/image-{bare(came.image.digest)[:12]}")
    assert came.image.parts.tag == "latest"


async def test_a_declared_layer_need_not_be_sent(receive: Receive, docker_host: str) -> None:
    await receive(docker_archive(SAYING, TAG))
    paths = [f"{number}/layer.tar" for number in range(len(SAYING.layers))]
    declared = dict(zip(paths, (layer.diff_id for layer in SAYING.layers), strict=True))
    with Tar() as tar:
        tar.add("modelyard-present.json", canonical(declared))
        tar.add(f"{bare(SAYING.id)}.json", SAYING.config)
        tar.add("manifest.json", listing((SAYING, ("team/again:1",), paths)))
    came = await receive(tar.content)
    assert await run(docker_host, came.image.pinned) == "it runs"


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
            assert (await receive(tar.content)).image.digest == SAYING.digest
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
        await outcome(ingest, breaking(), org)
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

    task = asyncio.create_task(outcome(ingest, stalling(), org))
    await is_stuck.wait()
    assert files.open_uploads(f"layers/{org}")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert files.open_uploads(f"layers/{org}") == []


async def test_who_stops_when_all_bytes_are_here_leaves_nothing_visible(
    ingest: Ingest, org: str, files: RegistryFiles
) -> None:
    archive = docker_archive(an_image(), TAG)
    async with aclosing(ingest.receive(pieces(archive), org=org, wish=Wish())) as steps:
        arrived = [step async for step in until_complete(steps)]
    assert arrived[-1] == Arrived(len(archive))
    assert arrived == sorted(arrived, key=lambda step: step.count)
    assert files.open_uploads(f"layers/{org}") == []
    assert files.repositories(f"images/{org}") == []


async def until_complete(steps: AsyncIterator[IngestStep]) -> AsyncIterator[Arrived]:
    async for step in steps:
        if isinstance(step, Complete):
            return
        assert isinstance(step, Arrived)
        yield step


async def test_what_is_withdrawn_names_again_what_it_did(
    receive: Receive, ingest: Ingest, org: str, files: RegistryFiles
) -> None:
    first = await receive(docker_archive(SAYING, TAG))
    second = await receive(docker_archive(busybox_image(seed=3), TAG))
    await ingest.withdraw(org, second)
    repository = first.image.parts.repository
    assert files.manifest(repository, "1").headers["docker-content-digest"] == first.image.digest
    await ingest.withdraw(org, first)
    assert files.tags(repository) == []


async def run(docker_host: str, reference: str) -> str:
    """What the image prints on a private engine that may pull it."""
    parts = references.parse(reference)
    token = tokens(parts.registry).token(Access(parts.repository, PULL))
    with tempfile.TemporaryDirectory() as folder:
        auths = {parts.registry: {"registrytoken": token}}
        Path(folder, "config.json").write_text(json.dumps({"auths": auths}))
        process = await asyncio.create_subprocess_exec(
            *("docker", "-H", docker_host, "--config", folder),
            *("run", "--rm", "--pull", "always", "--quiet", reference),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        said, complained = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, complained.decode()
    return said.decode().strip()


def counted_uploads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by every upload that is begun from now on."""
    from pipeline.adapters.registry.push import PushSession

    begun: list[str] = []
    begin = PushSession.begin

    async def counting(self: PushSession) -> object:
        begun.append("upload")
        return await begin(self)

    monkeypatch.setattr(PushSession, "begin", counting)
    return begun


def _two_members(content: bytes) -> bytes:
    half = len(content) // 2
    return gzip.compress(content[:half]) + gzip.compress(content[half:]) + bytes(100)
