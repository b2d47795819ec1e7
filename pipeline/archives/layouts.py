"""What the files of an image archive are to each other, in every layout that people send.

`docker save` before and since version 25, skopeo's docker-archive, and OCI image layouts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from pipeline import strict_json
from pipeline.archives.files import Files
from pipeline.errors import ImageIncomplete, ImageRejected, InvalidInput, RegistryProtocolError
from pipeline.oci import manifests
from pipeline.oci.manifests import Index, Manifest
from schemas.image import Platform

LISTING: Final = "manifest.json"
INDEX: Final = "index.json"
IMAGES_MAX: Final = 256
LAYERS_MAX: Final = manifests.LAYERS_MAX
INDEX_DEPTH: Final = 3

_NOISE = re.compile(r"repositories|oci-layout|(?:[0-9a-f]{64}/)?(?:VERSION|json)")
_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One image of one platform that the archive says it holds. Its files may be missing."""

    names: tuple[str, ...]
    """Tags; empty for an image without one."""
    config: str
    """Path, as are those of the layers, base first."""
    layers: tuple[str, ...]
    platform: Platform | None = None
    """As the index says it; the configuration decides."""
    manifest: bytes | None = None
    """The OCI manifest that came with it, to be stored as it is."""


def is_noise(path: str) -> bool:
    """Written by tools and needed by nobody."""
    return _NOISE.fullmatch(path) is not None


def candidates(files: Files) -> list[Candidate]:
    """Every image that the archive names, in its order. Raises ImageIncomplete when none is."""
    if (listing := _root_document(files, LISTING)) is not None:
        return list(_listed(listing))
    if (index := _root_document(files, INDEX)) is not None:
        return list(_indexed(files, index))
    raise ImageIncomplete(
        "The archive has neither manifest.json nor index.json: make it with docker save."
    )


def _root_document(files: Files, name: str) -> bytes | None:
    path = files.find(name)
    if path is not None and path not in files.small:
        raise ImageIncomplete(f"{name} is larger than any image needs.")
    return None if path is None else files.small[path]


def _listed(listing: bytes) -> Iterator[Candidate]:
    items = read_json(listing, LISTING)
    if not isinstance(items, list) or not 0 < len(items) <= IMAGES_MAX:
        raise ImageIncomplete(f"manifest.json is not a list of 1 to {IMAGES_MAX} images.")
    for item in items:
        if not isinstance(item, dict):
            raise ImageIncomplete("manifest.json lists something else than an image.")
        config = item.get("Config")
        if not isinstance(config, str):
            raise ImageIncomplete("manifest.json names no configuration.")
        layers = _texts(item.get("Layers"), "Layers")
        if len(layers) > LAYERS_MAX:
            raise ImageIncomplete(f"The image has more than {LAYERS_MAX} layers.")
        yield Candidate(_texts(item.get("RepoTags"), "RepoTags"), config, layers)


def _indexed(
    files: Files,
    index: bytes,
    names: tuple[str, ...] = (),
    platform: Platform | None = None,
    depth: int = 0,
) -> Iterator[Candidate]:
    """Images of an index whose manifests are there; what an index in it holds counts as its own."""
    parsed = _manifest(index, INDEX)
    if not isinstance(parsed, Index):
        raise ImageIncomplete("index.json is not an image index.")
    if len(parsed.entries) > IMAGES_MAX or depth > INDEX_DEPTH:
        raise ImageIncomplete("The archive's index is larger or deeper than any image needs.")
    own = _entry_names(index)
    for digest, entry in {entry.digest: entry for entry in parsed.entries}.items():
        body = files.document(_path(digest))
        if body is None or _is_artifact(body):
            continue
        document = _manifest(body, f"manifest {digest}")
        called = own.get(digest) or names
        if isinstance(document, Index):
            yield from _indexed(files, body, called, entry.platform or platform, depth + 1)
        else:
            yield Candidate(
                names=called,
                config=_path(document.config.digest),
                layers=tuple(_path(layer.digest) for layer in document.layers),
                platform=entry.platform or platform,
                manifest=body,
            )


def _manifest(body: bytes, what: str) -> Manifest | Index:
    try:
        return manifests.read_manifest(body)
    except (RegistryProtocolError, ImageRejected) as error:
        why = error.message.partition(": ")[2] or "it is no image."
        raise ImageIncomplete(f"The archive's {what} cannot be read: {why}") from error


def _is_artifact(body: bytes) -> bool:
    """A signature or the like: beside the images, not one of them."""
    document = read_json(body, "manifest")
    has_config = isinstance(document, dict) and isinstance(document.get("config"), dict)
    return has_config and not manifests.may_be_image(document)


def _entry_names(index: bytes) -> dict[str, tuple[str, ...]]:
    """What the entries of an index are called, by digest."""
    found: dict[str, tuple[str, ...]] = {}
    for entry in read_json(index, INDEX)["manifests"]:
        notes = entry.get("annotations")
        if isinstance(notes, dict):
            digest = str(entry.get("digest"))
            named = tuple(str(notes[key]) for key in _NAMES if key in notes)[:1]
            found[digest] = found.get(digest, ()) + named
    return found


def _path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/", 1)


def _texts(value: Any, what: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ImageIncomplete(f"{what} in manifest.json is not a list of names.")
    return tuple(value)


def read_json(body: bytes, what: str) -> Any:
    """Raises ImageIncomplete for what is no JSON, or none that can be kept."""
    try:
        return strict_json.read(body, max_bytes=len(body))
    except InvalidInput as error:
        raise ImageIncomplete(f"The archive's {what} cannot be read: {error.message}") from None
