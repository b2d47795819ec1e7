"""Which image of an archive is meant, and the manifest under which a registry keeps it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pipeline.archives import layouts
from pipeline.archives.compression import Compression
from pipeline.archives.files import Files, Stored
from pipeline.archives.layouts import Candidate
from pipeline.errors import (
    DigestMismatch,
    ImageAmbiguous,
    ImageIncomplete,
    ImageRejected,
    InvalidReference,
    RegistryProtocolError,
    WrongPlatform,
)
from pipeline.oci import manifests, platforms, references
from pipeline.oci.manifests import Config, Manifest
from schemas.image import Platform

_OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
_OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
_DOCKER_LAYERS: Final = {
    Compression.NONE: "application/vnd.docker.image.rootfs.diff.tar",
    Compression.GZIP: "application/vnd.docker.image.rootfs.diff.tar.gzip",
}
_CONFIG_NAME = re.compile(r"(?:sha256:)?([0-9a-f]{64})(?:\.json)?")


@dataclass(frozen=True, slots=True)
class Described:
    """A candidate whose configuration was read."""

    candidate: Candidate
    body: bytes
    config: Config
    platform: Platform


@dataclass(frozen=True, slots=True)
class Chosen:
    """The image, complete and consistent, and what a registry has to hold for it."""

    names: tuple[str, ...]
    config: Config
    platform: Platform
    config_body: bytes
    layers: tuple[tuple[str, Stored], ...]
    """Path and content, base first."""
    manifest: bytes
    media_type: str

    @property
    def digest(self) -> str:
        return sha256(self.manifest)

    @property
    def size_bytes(self) -> int:
        return len(self.config_body) + sum(layer.size_bytes for _, layer in self.layers)


def choose(
    files: Files, *, repo_tag: str | None, platform: Platform | None, host: Platform
) -> Chosen:
    """Raises ImageAmbiguous, ImageIncomplete, DigestMismatch and WrongPlatform.

    Of several platforms the one asked for, else the host's, else another supported one.
    """
    listed = layouts.candidates(files)
    images = [one for one in listed if not _is_artifact(files, one)]
    meant = _meant(images or listed, repo_tag)
    described = [_described(files, candidate) for candidate in _complete(files, meant)]
    one = _of_platform(described, platform, host)
    layers = tuple(_layer(files, path) for path in one.candidate.layers)
    _require_diff_ids(one, [layer for _, layer in layers])
    manifest, media_type = _manifest(one, [layer for _, layer in layers])
    return Chosen(
        names=one.candidate.names,
        config=one.config,
        platform=one.platform,
        config_body=one.body,
        layers=layers,
        manifest=manifest,
        media_type=media_type,
    )


def sha256(body: bytes) -> str:
    return "sha256:" + hashlib.sha256(body).hexdigest()


def _meant(found: Sequence[Candidate], repo_tag: str | None) -> list[Candidate]:
    """All platforms of the one image that is meant."""
    tags = sorted({name for candidate in found for name in candidate.names})[:100]
    if repo_tag is not None:
        found = [one for one in found if any(_is_same(name, repo_tag) for name in one.names)]
        if not found:
            raise ImageAmbiguous(
                f"The archive holds no image {repo_tag[:200]!r}: {_listing(tags)}.", tags=tags
            )
    elif len({_identity(candidate) for candidate in found}) > 1:
        raise ImageAmbiguous(
            f"The archive holds several images: choose one by its tag; {_listing(tags)}.", tags=tags
        )
    return list(found)


def _identity(candidate: Candidate) -> Hashable:
    """What differs between images and not between platforms of one image."""
    if candidate.names:
        return candidate.names
    return candidate.config if candidate.manifest is None else None


def _is_same(name: str, wanted: str) -> bool:
    """Spelt differently, `busybox` is `docker.io/library/busybox:latest`."""
    try:
        return name == wanted or references.parse(name) == references.parse(wanted)
    except InvalidReference:
        return False


def _listing(tags: Sequence[str]) -> str:
    return f"it has {', '.join(tags)[:1000]}" if tags else "none of them has a tag"


def _complete(files: Files, meant: Sequence[Candidate]) -> list[Candidate]:
    """Those whose parts are all there. Raises ImageIncomplete when there is none."""
    absent = [
        [path for path in (one.config, *one.layers) if files.find(path) is None] for one in meant
    ]
    found = [one for one, lacks in zip(meant, absent, strict=True) if not lacks]
    if found:
        return found
    lacking = next(iter(absent), None)
    if lacking is None:
        raise ImageIncomplete("The archive's index names no image whose manifest is in it.")
    raise ImageIncomplete(
        f"The archive lacks {len(lacking)} of the files that the image needs, first of all"
        f" {lacking[0][:200]!r}: make it again."
    )


def _described(files: Files, candidate: Candidate) -> Described:
    body = files.document(candidate.config)
    if body is None:
        raise ImageIncomplete("The image's configuration is larger than any image needs.")
    _require_named_digest(candidate.config, body)
    layouts.read_json(body, "image configuration")
    try:
        config = manifests.read_config(body)
    except RegistryProtocolError as error:
        why = error.message.partition(": ")[2]
        raise ImageIncomplete(f"The image's configuration cannot be read: {why}") from error
    if candidate.manifest is not None:
        _require_image(candidate.manifest, config)
    platform = manifests.told_by_index(config.platform, candidate.platform)
    return Described(candidate, body, config, platform)


def _require_image(manifest: bytes, config: Config) -> None:
    found = manifests.read_manifest(manifest)
    try:
        if isinstance(found, Manifest):
            manifests.require_image(found, config)
    except ImageRejected as error:
        raise ImageIncomplete("The archive holds something else than an image.") from error


def _is_artifact(files: Files, candidate: Candidate) -> bool:
    """Known by its configuration alone: beside images, it is none of them."""
    body = files.document(candidate.config)
    if candidate.manifest is None or body is None:
        return False
    try:
        _require_image(candidate.manifest, manifests.read_config(body))
    except RegistryProtocolError:
        # Whoever chooses it is told what is wrong with it.
        return False
    except ImageIncomplete:
        return True
    return False


def _require_named_digest(path: str, body: bytes) -> None:
    """Configurations are called by their digest in most layouts, blobs always (checked before)."""
    named = _CONFIG_NAME.fullmatch(path)
    if named and sha256(body) != f"sha256:{named[1]}":
        raise DigestMismatch("The image's configuration is not what its name says: make it again.")


def _of_platform(
    described: Sequence[Described], wanted: Platform | None, host: Platform
) -> Described:
    for candidate in (wanted,) if wanted else (host, *platforms.SUPPORTED):
        fitting = [one for one in described if platforms.fits(one.platform, candidate)]
        supported = [one for one in fitting if platforms.is_supported(one.platform)]
        if supported:
            return supported[0]
    raise WrongPlatform(platforms.mismatch((one.platform for one in described), wanted))


def _layer(files: Files, path: str) -> tuple[str, Stored]:
    found = files.find(path)
    assert found is not None, "only complete candidates are looked at"
    return found, files.stored[found]


def _require_diff_ids(one: Described, layers: Sequence[Stored]) -> None:
    listed = _diff_ids(one.body)
    if len(listed) != len(layers):
        raise ImageIncomplete(
            f"The image has {len(layers)} layers, its configuration lists {len(listed)}."
        )
    for number, (named, layer) in enumerate(zip(listed, layers, strict=True), 1):
        if layer.diff_id is None:
            raise ImageIncomplete(f"The compression of layer {number} is broken: make it again.")
        if layer.diff_id != named:
            raise DigestMismatch(
                f"Layer {number} opens to {layer.diff_id}, the configuration says {named[:100]!r}."
            )


def _diff_ids(body: bytes) -> list[str]:
    rootfs = json.loads(body).get("rootfs")
    listed = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if listed is None:
        listed = []
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        raise ImageIncomplete("The image's configuration lists no layers.")
    return listed


def _manifest(one: Described, layers: Sequence[Stored]) -> tuple[bytes, str]:
    """What came with the archive, byte for byte, or else one of Docker's kind."""
    given = one.candidate.manifest
    if given is not None:
        return given, json.loads(given).get("mediaType") or manifests.OCI_MANIFEST
    # Docker has no name for layers of zstd.
    is_oci = any(layer.compression is Compression.ZSTD for layer in layers)
    media_type = manifests.OCI_MANIFEST if is_oci else manifests.DOCKER_MANIFEST
    config = {
        "mediaType": _OCI_CONFIG if is_oci else _DOCKER_CONFIG,
        "size": len(one.body),
        "digest": sha256(one.body),
    }
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": config,
        "layers": [_descriptor(layer, is_oci=is_oci) for layer in layers],
    }
    return json.dumps(document, separators=(",", ":")).encode(), media_type


def _descriptor(layer: Stored, *, is_oci: bool) -> Mapping[str, Any]:
    suffix = f"+{layer.compression.value}" if layer.compression.value else ""
    kind = _OCI_LAYER + suffix if is_oci else _DOCKER_LAYERS[layer.compression]
    return {"mediaType": kind, "size": layer.size_bytes, "digest": layer.digest}
