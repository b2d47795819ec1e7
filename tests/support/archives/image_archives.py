"""Images as TAR archives, in every layout that people send."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from tests.support.archives.images import (
    MEDIA_TYPES,
    TinyImage,
    bare,
    canonical,
    descriptor,
    sha256,
)
from tests.support.archives.tars import Tar


def docker_archive(
    image: TinyImage, *tags: str, layout: Literal["legacy", "modern"] = "legacy"
) -> bytes:
    """What `docker save` writes: `legacy` before Docker 25, `modern` since."""
    return _legacy_archive(image, tags) if layout == "legacy" else _modern_archive(image, tags)


def _legacy_archive(image: TinyImage, tags: Sequence[str]) -> bytes:
    config = f"{bare(image.id)}.json"
    ids = [
        bare(sha256(f"{index}/{layer.diff_id}".encode()))
        for index, layer in enumerate(image.layers)
    ]
    with Tar() as tar:
        for id, parent, layer in zip(ids, [None, *ids], image.layers, strict=False):
            tar.add(f"{id}/VERSION", b"1.0")
            tar.add(f"{id}/json", canonical({"id": id} | ({"parent": parent} if parent else {})))
            tar.add(f"{id}/layer.tar", layer.tar)
        tar.add(config, image.config)
        tar.add("manifest.json", _listing(config, tags, [f"{id}/layer.tar" for id in ids]))
        tar.add("repositories", _repositories(tags, ids[-1]))
    return tar.content


def _modern_archive(image: TinyImage, tags: Sequence[str]) -> bytes:
    names = {**MEDIA_TYPES["oci"], "layer": "application/vnd.oci.image.layer.v1.tar"}
    manifest = canonical(
        {
            "schemaVersion": 2,
            "mediaType": names["manifest"],
            "config": descriptor(names["config"], image.config),
            "layers": [descriptor(names["layer"], layer.tar) for layer in image.layers],
        }
    )
    blobs = {layer.diff_id: layer.tar for layer in image.layers}
    blobs |= {image.id: image.config, sha256(manifest): manifest}
    with Tar() as tar:
        _add_oci_layout(tar, blobs, manifest, tags[0] if tags else None)
        listing = _listing(_blob(image.id), tags, [_blob(one.diff_id) for one in image.layers])
        tar.add("manifest.json", listing)
        tar.add("repositories", _repositories(tags, bare(image.layers[-1].diff_id)))
    return tar.content


def oci_archive(image: TinyImage, tag: str | None = None) -> bytes:
    """An OCI image layout as a TAR, layers compressed, without Docker's `manifest.json`."""
    manifest = image.manifest()
    with Tar() as tar:
        _add_oci_layout(tar, image.blobs | {sha256(manifest): manifest}, manifest, tag)
    return tar.content


def _add_oci_layout(tar: Tar, blobs: Mapping[str, bytes], manifest: bytes, tag: str | None) -> None:
    for digest, blob in sorted(blobs.items()):
        tar.add(_blob(digest), blob)
    entry = descriptor(MEDIA_TYPES["oci"]["manifest"], manifest)
    if tag:
        name = {
            "io.containerd.image.name": tag,
            "org.opencontainers.image.ref.name": tag.rpartition(":")[2],
        }
        entry |= {"annotations": name}
    tar.add("index.json", canonical({"schemaVersion": 2, "manifests": [entry]}))
    tar.add("oci-layout", canonical({"imageLayoutVersion": "1.0.0"}))


def _listing(config: str, tags: Sequence[str], layers: list[str]) -> bytes:
    return canonical([{"Config": config, "RepoTags": list(tags) or None, "Layers": layers}])


def _repositories(tags: Sequence[str], top: str) -> bytes:
    found: dict[str, dict[str, str]] = {}
    for name, _, tag in (one.rpartition(":") for one in tags):
        found.setdefault(name, {})[tag] = top
    return canonical(found)


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"
