"""Archives with one fault each, by the code that answers it."""

from __future__ import annotations

import gzip
import json
import lzma
import tarfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tests.support.archives.archive_layouts import listing, oci_layout
from tests.support.archives.image_archives import docker_archive, oci_archive
from tests.support.archives.images import TinyImage, bare, busybox_image, canonical
from tests.support.archives.tars import Tar

NOISE_BYTES = 1_500_000
"""More than what is kept in memory: such a layer is on its way when the fault is met."""


class Broken(NamedTuple):
    name: str
    code: str
    archive: bytes


def an_image(**values: Any) -> TinyImage:
    return busybox_image(random_layers=(NOISE_BYTES,), seed=7, **values)


def broken_archives() -> Iterator[Broken]:
    """Every fault, once with and once without a large layer before it."""
    image = an_image()
    whole = docker_archive(image, "team/model:1")
    zipped = gzip.compress(whole, compresslevel=1)
    yield Broken("ends early", "tar_truncated", whole[: len(whole) // 2])
    yield Broken(
        "ends before its end mark", "tar_truncated", whole[: whole.rindex(b"]") // 512 * 512]
    )
    last = whole[: whole.rindex(b"]") // 512 * 512 - 512]
    yield Broken("ends between two entries", "tar_truncated", last)
    yield Broken("xz ends early", "tar_truncated", lzma.compress(whole, preset=0)[:-9])
    yield Broken("gzip ends early", "tar_truncated", zipped[: len(zipped) // 2])
    yield Broken("gzip is damaged", "tar_truncated", damaged(zipped))
    yield Broken("nothing", "not_a_tar", b"")
    yield Broken("text", "not_a_tar", b"no archive at all " * 100_000)
    yield Broken("gzip of text", "not_a_tar", gzip.compress(b"no archive " * 1000))
    yield Broken("zeros", "not_a_tar", bytes(10240))
    yield from _unsafe(image)
    yield from _incomplete(image)
    yield from _inconsistent(image)
    yield from _chosen(image)


def _unsafe(image: TinyImage) -> Iterator[Broken]:
    def with_entry(change: Callable[[Tar], None]) -> bytes:
        return legacy(image, before_manifest=change)

    for name in ("../escape", "/etc/passwd", "a/../../b"):
        archive = with_entry(lambda tar, name=name: tar.add(name, b"x"))
        yield Broken(f"path {name}", "tar_unsafe_path", archive)
    for target in ("/etc/passwd", "../../x"):
        archive = with_entry(lambda tar, target=target: tar.link("link", target))
        yield Broken(f"link to {target}", "tar_unsafe_path", archive)
    for kind, what in ((tarfile.CHRTYPE, "device"), (tarfile.FIFOTYPE, "fifo")):
        archive = with_entry(lambda tar, kind=kind: tar.special("odd", kind))
        yield Broken(what, "tar_unsafe_entry", archive)
    again = with_entry(lambda tar: tar.add(f"{bare(image.id)}.json", image.config))
    yield Broken("the same file twice", "tar_duplicate_entry", again)


def _incomplete(image: TinyImage) -> Iterator[Broken]:
    yield Broken("no manifest", "image_incomplete", legacy(image, manifest=None))
    yield Broken("manifest is no JSON", "image_incomplete", legacy(image, manifest=b"{nope"))
    yield Broken("manifest is no list", "image_incomplete", legacy(image, manifest=b"{}"))
    yield Broken("manifest lists nothing", "image_incomplete", legacy(image, manifest=b"[]"))
    odd = canonical([{"Config": 5, "Layers": None}])
    yield Broken("manifest of wrong types", "image_incomplete", legacy(image, manifest=odd))
    config = f"{bare(image.id)}.json"
    absent = canonical([{"Config": config, "RepoTags": [], "Layers": ["nowhere/layer.tar"]}])
    yield Broken("no layer", "image_incomplete", legacy(image, manifest=absent))
    outside = canonical([{"Config": "../../etc/passwd", "RepoTags": [], "Layers": []}])
    yield Broken("config outside", "image_incomplete", legacy(image, manifest=outside))
    loop = canonical([{"Config": "a", "RepoTags": [], "Layers": []}])

    def links(tar: Tar) -> None:
        tar.link("a", "b")
        tar.link("b", "a")

    circle = legacy(image, manifest=loop, before_manifest=links)
    yield Broken("config is a circle of links", "image_incomplete", circle)
    yield Broken("deep JSON", "image_incomplete", legacy(image, manifest=b"[" * 100_000))
    empty = oci_layout({"linux/amd64": image}, absent=("linux/amd64",))
    yield Broken("index without blobs", "image_incomplete", empty)
    for name, config_body in {
        "config is no JSON": b"not json",
        "config is a list": b"[]",
        "config lists no layers": canonical({"os": "linux", "architecture": "amd64"}),
    }.items():
        changed = TinyImage(config_body, image.layers)
        yield Broken(name, "image_incomplete", legacy(changed))


def _inconsistent(image: TinyImage) -> Iterator[Broken]:
    archive = legacy(image, layers=[layer.tar + bytes(512) for layer in image.layers])
    yield Broken("layer is not its diff_id", "digest_mismatch", archive)
    yield Broken(
        "config is not its name", "digest_mismatch", legacy(image, config=image.config + b" ")
    )
    archive = oci_archive(image, "team/model:1")
    marker = archive.index(image.layers[1].blob)
    changed = archive[: marker + 100] + b"\0\0\0\0" + archive[marker + 104 :]
    yield Broken("blob is not its name", "digest_mismatch", changed)
    config = json.loads(image.config)
    config["rootfs"]["diff_ids"].reverse()
    yield Broken(
        "wrong order", "digest_mismatch", oci_archive(TinyImage(canonical(config), image.layers))
    )


def _chosen(image: TinyImage) -> Iterator[Broken]:
    other = busybox_image(command=["true"])
    two = [
        (one, (f"team/{name}:1",), [f"{name}/layer.tar"])
        for name, one in (("a", other), ("b", other))
    ]
    with Tar() as tar:
        for name in ("a", "b"):
            tar.add(f"{name}/layer.tar", other.layers[0].tar)
        tar.add(f"{bare(other.id)}.json", other.config)
        tar.add("manifest.json", listing(*two))
    yield Broken("two images", "image_ambiguous", tar.content)
    wrong = docker_archive(an_image(platform="linux/riscv64"), "team/model:1")
    yield Broken("another architecture", "wrong_platform", wrong)
    windows = docker_archive(an_image(platform="windows/amd64"), "team/model:1")
    yield Broken("another system", "wrong_platform", windows)


def legacy(
    image: TinyImage,
    *,
    manifest: bytes | None = b"whole",
    config: bytes | None = None,
    layers: list[bytes] | None = None,
    before_manifest: Callable[[Tar], None] = lambda tar: None,
) -> bytes:
    """A legacy archive with something changed. `manifest` None leaves it out."""
    contents = layers or [layer.tar for layer in image.layers]
    paths = [f"{number}/layer.tar" for number in range(len(contents))]
    with Tar() as tar:
        for path, content in zip(paths, contents, strict=True):
            tar.add(path, content)
        tar.add(f"{bare(image.id)}.json", config or image.config)
        before_manifest(tar)
        if manifest == b"whole":
            tar.add("manifest.json", listing((image, ("team/model:1",), paths)))
        elif manifest is not None:
            tar.add("manifest.json", manifest)
    return tar.content


def damaged(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(64) + content[middle + 64 :]
