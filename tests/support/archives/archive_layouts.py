"""Archives as tools other than `docker save` write them."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from backports import zstd

from tests.support.archives.images import (
    MEDIA_TYPES,
    TinyImage,
    bare,
    canonical,
    descriptor,
    sha256,
)
from tests.support.archives.tars import Tar

Packing = Literal["none", "gzip", "zstd"]

_LAYERS = {
    "none": "application/vnd.oci.image.layer.v1.tar",
    "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
}
_INDEX = "application/vnd.oci.image.index.v1+json"


def packed(content: bytes, packing: Packing) -> bytes:
    if packing == "gzip":
        return gzip.compress(content, compresslevel=1, mtime=0)
    if packing == "zstd":
        return zstd.compress(content)
    return content


def skopeo_docker_archive(image: TinyImage, *tags: str) -> bytes:
    """Layers by their digest, with symbolic links in the old places."""
    with Tar() as tar:
        for layer in image.layers:
            tar.add(f"{bare(layer.diff_id)}.tar", layer.tar)
        tar.add(f"{bare(image.id)}.json", image.config)
        for number, layer in enumerate(image.layers):
            id = bare(sha256(f"{number}".encode()))
            tar.link(f"{id}/layer.tar", f"../{bare(layer.diff_id)}.tar")
            tar.add(f"{id}/VERSION", b"1.0")
        tar.add("manifest.json", listing((image, tags, linked_layers(image))))
    return tar.content


def linked_layers(image: TinyImage) -> list[str]:
    return [
        f"{bare(sha256(f'{number}'.encode()))}/layer.tar" for number in range(len(image.layers))
    ]


def listing(*images: tuple[TinyImage, Sequence[str], Sequence[str]]) -> bytes:
    """`manifest.json` of these images: tags and paths of the layers."""
    return canonical(
        [
            {"Config": f"{bare(image.id)}.json", "RepoTags": list(tags), "Layers": list(layers)}
            for image, tags, layers in images
        ]
    )


def oci_layout(
    images: Mapping[str, TinyImage],
    *,
    packing: Packing = "gzip",
    tag: str | None = None,
    with_attestation: bool = False,
    absent: Sequence[str] = (),
    first: bool = False,
    config_type: str | None = MEDIA_TYPES["oci"]["config"],
    told: Mapping[str, Any] | None = None,
) -> bytes:
    """An OCI image layout of several platforms (`linux/arm64` → image) under one index.

    `absent` platforms are named in the index and their blobs left out; `first` puts `index.json`
    before the blobs; `config_type` is what manifests call their configuration; `told` is
    what the entries of the index say instead of their platform.
    """
    blobs: dict[str, bytes] = {}
    entries = []
    for platform, image in images.items():
        manifest = oci_manifest(image, packing, config_type)
        os, architecture = platform.split("/")
        entry = descriptor(MEDIA_TYPES["oci"]["manifest"], manifest)
        named = {"platform": {"os": os, "architecture": architecture}}
        entries.append(entry | (named if told is None else told))
        if platform not in absent:
            blobs |= {
                sha256(packed(one.tar, packing)): packed(one.tar, packing) for one in image.layers
            }
            blobs |= {image.id: image.config, sha256(manifest): manifest}
    if with_attestation:
        entries.append(_attestation(blobs))
    nested = canonical({"schemaVersion": 2, "mediaType": _INDEX, "manifests": entries})
    blobs[sha256(nested)] = nested
    named = {"annotations": {"io.containerd.image.name": tag}} if tag else {}
    index = canonical({"schemaVersion": 2, "manifests": [descriptor(_INDEX, nested) | named]})
    with Tar() as tar:
        if first:
            tar.add("index.json", index)
        for digest, blob in sorted(blobs.items()):
            tar.add(blob_path(digest), blob)
        tar.add("oci-layout", canonical({"imageLayoutVersion": "1.0.0"}))
        if not first:
            tar.add("index.json", index)
    return tar.content


def oci_manifest(
    image: TinyImage, packing: Packing, config_type: str | None = MEDIA_TYPES["oci"]["config"]
) -> bytes:
    config = descriptor(config_type or "", image.config)
    if config_type is None:
        del config["mediaType"]
    return canonical(
        {
            "schemaVersion": 2,
            "mediaType": MEDIA_TYPES["oci"]["manifest"],
            "config": config,
            "layers": [
                descriptor(_LAYERS[packing], packed(one.tar, packing)) for one in image.layers
            ],
        }
    )


def blob_path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _attestation(blobs: dict[str, bytes]) -> dict[str, Any]:
    """What buildkit puts beside an image: no image, of no platform."""
    config = canonical({"architecture": "unknown", "os": "unknown", "rootfs": {"diff_ids": []}})
    statement = canonical({"_type": "https://in-toto.io/Statement/v0.1"})
    manifest = canonical(
        {
            "schemaVersion": 2,
            "mediaType": MEDIA_TYPES["oci"]["manifest"],
            "config": descriptor(MEDIA_TYPES["oci"]["config"], config),
            "layers": [descriptor("application/vnd.in-toto+json", statement)],
        }
    )
    for blob in (config, statement, manifest):
        blobs[sha256(blob)] = blob
    entry = descriptor(MEDIA_TYPES["oci"]["manifest"], manifest)
    return entry | {"platform": {"os": "unknown", "architecture": "unknown"}}
