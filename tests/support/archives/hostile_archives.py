"""Archives as somebody would make them who means harm, or whose tool is broken: a strategy."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from dataclasses import dataclass
from typing import Any

from backports import zstd
from hypothesis import strategies as st

from tests.support.archives.images import bare, busybox_image, canonical

IMAGE = busybox_image(random_layers=(1_200_000,), seed=71)
"""One layer is larger than what is kept in memory: it is on its way when a fault is met."""
PACKINGS = ("plain", "gzip", "zstd", "cut gzip", "cut zstd", "gzip and noise")
NAMES = (
    *("../up", "/root", "a/../../b", "", ".", "./", "a//b", "a\0b", "x" * 300, "ü/ä", "\udcff"),
    *("manifest.json", "index.json", "oci-layout", "blobs/sha256/" + "0" * 64, "layer.tar"),
)
KINDS = (
    *(tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE),
    *(tarfile.FIFOTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, b"?"),
)
LAYER_FAULTS = (
    "whole",
    "cut",
    "of zeros",
    "gzip",
    "cut gzip",
    "a gzip bomb",
    "a zstd bomb",
    "text",
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["Config", "Layers", "RepoTags", "rootfs", "diff_ids", "digest", "manifests"]
            )
            | st.text(max_size=9),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@dataclass(frozen=True, slots=True)
class Hostile:
    archive: bytes
    made_of: str
    """For whoever reads a failure."""


@st.composite
def hostile_archives(draw: st.DrawFn) -> Hostile:
    """Rarely one that is well, too."""
    entries = _entries(draw)
    made = [f"{info.name!r:.60} {info.type!r}" for info, _ in entries]
    archive = _written(entries)
    if draw(st.booleans()):
        archive = _scratched(draw, archive)
        made.append("scratched")
    packing = draw(st.sampled_from(PACKINGS))
    return Hostile(_packed(archive, packing), f"{made} as {packing}")


def _entries(draw: st.DrawFn) -> list[tuple[tarfile.TarInfo, bytes]]:
    config, listing = _documents(draw)
    paths = [f"{number}/layer.tar" for number in range(len(IMAGE.layers))]
    contents = {
        path: _layer(layer.tar, draw(st.sampled_from(LAYER_FAULTS)))
        for path, layer in zip(paths, IMAGE.layers, strict=True)
    }
    contents |= {f"{bare(IMAGE.id)}.json": config, "manifest.json": listing}
    entries = [_entry(name, content) for name, content in contents.items()]
    for _ in range(draw(st.sampled_from((0, 0, 0, 1, 2)))):
        name, kind = draw(st.sampled_from(NAMES)), draw(st.sampled_from(KINDS))
        target = draw(st.sampled_from((*NAMES, *contents)))
        entries.append(_entry(name, draw(st.binary(max_size=600)), kind, target))
    if draw(st.booleans()):
        entries.append(draw(st.sampled_from(entries)))
    if draw(st.booleans()):
        entries.remove(draw(st.sampled_from(entries)))
    return draw(st.permutations(entries))


def _documents(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Configuration and listing, of which one may be anything."""
    paths = [f"{number}/layer.tar" for number in range(len(IMAGE.layers))]
    listing: Any = [{"Config": f"{bare(IMAGE.id)}.json", "RepoTags": ["a/b:1"], "Layers": paths}]
    match draw(st.sampled_from(("well", "config", "listing", "field", "deep", "bytes"))):
        case "config":
            return _text(draw(json_values)), canonical(listing)
        case "listing":
            return IMAGE.config, _text(draw(json_values))
        case "field":
            listing[0][draw(st.sampled_from(["Config", "RepoTags", "Layers"]))] = draw(json_values)
        case "deep":
            return IMAGE.config, b"[" * draw(st.integers(1, 200_000))
        case "bytes":
            return IMAGE.config, draw(st.binary(max_size=200))
    return IMAGE.config, _text(listing)


def _text(value: object) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _layer(content: bytes, fault: str) -> bytes:
    match fault:
        case "cut":
            return content[: len(content) // 2]
        case "of zeros":
            return bytes(len(content))
        case "gzip":
            return gzip.compress(content, 1)
        case "cut gzip":
            return gzip.compress(content, 1)[:-9]
        case "a gzip bomb":
            return GZIP_BOMB
        case "a zstd bomb":
            return ZSTD_BOMB
        case "text":
            return b"no layer"
    return content


def _entry(
    name: str, content: bytes, kind: bytes = tarfile.REGTYPE, target: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type = kind
    if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        info.linkname = target
    info.size = len(content) if kind in (tarfile.REGTYPE, tarfile.CONTTYPE) else 0
    return info, content


def _written(entries: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", errors="surrogateescape") as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return made.getvalue()


def _scratched(draw: st.DrawFn, archive: bytes) -> bytes:
    changed = bytearray(archive)
    at = draw(st.integers(0, len(changed) - 1))
    match draw(st.sampled_from(("a byte", "cut", "a block less", "a block more", "a size"))):
        case "a byte":
            changed[at] ^= draw(st.integers(1, 255))
        case "cut":
            del changed[at:]
        case "a block less":
            del changed[at // 512 * 512 : at // 512 * 512 + 512]
        case "a block more":
            changed[at // 512 * 512 : at // 512 * 512] = draw(st.binary(min_size=512, max_size=512))
        case "a size":
            # Base 256, as GNU writes what is too large for octal digits.
            changed[124:136] = b"\x80" + b"\xff" * 11
    return bytes(changed)


def _packed(archive: bytes, packing: str) -> bytes:
    match packing:
        case "gzip":
            return gzip.compress(archive, 1)
        case "cut gzip":
            return gzip.compress(archive, 1)[:-20]
        case "gzip and noise":
            return gzip.compress(archive, 1) + b"noise"
        case "zstd":
            return zstd.compress(archive)
        case "cut zstd":
            return zstd.compress(archive)[:-20]
    return archive


def _bombs() -> tuple[bytes, bytes]:
    zeros = bytes(300 * 1024**2)
    return gzip.compress(zeros, 1), zstd.compress(zeros)


GZIP_BOMB, ZSTD_BOMB = _bombs()
