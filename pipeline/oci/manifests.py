"""Manifests, indexes and image configurations, read from hostile JSON into values.

OCI image specification 1.1 and Docker image manifest version 2, schema 2.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.errors import ImageRejected, InvalidReference, RegistryProtocolError
from pipeline.oci import references
from pipeline.ports import Layer
from schemas.image import Finding, Platform, Severity

OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
ACCEPT: Final = ", ".join((OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST))
IMAGE_CONFIGS: Final = frozenset(
    {"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"}
)
UNUSUAL_CONFIGS: Final = frozenset(
    {"", "application/octet-stream", "application/json", "text/html"}
)
"""What image configurations are called by pushes of old, or by registries that forgot the name.

Engines take them. Source: `ImageTypes` in moby (moby/moby#30083). Artifacts use these names, too.
"""
NOT_AN_IMAGE: Final = "not_an_image"
LAYERS_MAX: Final = 512
ENTRIES_MAX: Final = 512

_PORT = re.compile(r"([0-9]{1,5})(?:/(tcp|udp|sctp))?")
_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image of one platform."""

    config: Layer
    layers: tuple[Layer, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        return self.config.size_bytes + sum(layer.size_bytes for layer in self.layers)


@dataclass(frozen=True, slots=True)
class Entry:
    digest: str
    platform: Platform | None
    is_index: bool = False


@dataclass(frozen=True, slots=True)
class Index:
    """Images of several platforms; attestations and other `unknown/unknown` are left out."""

    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Config:
    """What an image says about itself."""

    platform: Platform
    """`unknown` where it says nothing."""
    labels: Mapping[str, str]
    env: Mapping[str, str]
    ports: tuple[int, ...]
    """TCP only, ascending."""
    command: tuple[str, ...]
    user: str
    has_healthcheck: bool
    is_of_image: bool = True
    """It has what only the configuration of an image has."""


def is_foreign(layer: Layer) -> bool:
    """A layer that registries need not hold (`foreign` of Docker, `nondistributable` of OCI)."""
    return "foreign" in layer.media_type or "nondistributable" in layer.media_type


def read_manifest(body: bytes) -> Manifest | Index:
    """Raises RegistryProtocolError for what is no manifest, ImageRejected for what is no image."""
    document = _parse(body, "manifest")
    if document.get("schemaVersion") == 1:
        raise rejection(
            "schema1_manifest",
            "The image has a manifest of schema 1, which is obsolete: push it again with a"
            " current client.",
        )
    for part in ("manifests", "layers"):
        if part in document and document[part] is None:
            raise _broken("manifest", f"{part} is null: build and push the image again")
    is_index, is_image = "manifests" in document, "layers" in document
    # One document that reads as both could mean different images to different readers
    # (CVE-2021-41190).
    if is_index == is_image:
        raise _broken("manifest", "it must have either layers or manifests")
    return _index(document) if is_index else _manifest(document)


def read_config(body: bytes) -> Config:
    """Raises RegistryProtocolError."""
    document = _parse(body, "image configuration")
    inner = _mapping(document.get("config"), "config")
    return Config(
        platform=_platform(document),
        labels=_named_texts(inner.get("Labels"), "Labels"),
        env=_env(_texts(inner.get("Env"), "Env")),
        ports=_ports(inner.get("ExposedPorts")),
        command=_texts(inner.get("Entrypoint"), "Entrypoint") + _texts(inner.get("Cmd"), "Cmd"),
        user=_text(inner.get("User"), "User"),
        has_healthcheck=_has_healthcheck(inner.get("Healthcheck")),
        is_of_image=bool(document.get("rootfs") or document.get("architecture")),
    )


def require_image(manifest: Manifest, config: Config) -> None:
    """Raises ImageRejected: under an unusual media type, only the content tells what it is."""
    if manifest.config.media_type in UNUSUAL_CONFIGS and not config.is_of_image:
        raise _not_an_image(manifest.config.media_type or "without a media type")


def may_be_image(document: Mapping[str, Any]) -> bool:
    """Judged by its media types, as far as they say anything."""
    config = document.get("config")
    media_type = config.get("mediaType") if isinstance(config, dict) else None
    if media_type in IMAGE_CONFIGS:
        return True
    return (media_type or "") in UNUSUAL_CONFIGS and not document.get("artifactType")


def told_by_index(platform: Platform, indexed: Platform | None) -> Platform:
    """The platform of a configuration, and where it says nothing, what the index says of it."""
    if indexed is None:
        return platform
    named = {
        name: value
        for name, value in platform.model_dump().items()
        if value not in (None, _UNKNOWN)
    }
    told = indexed.model_copy(update=named)
    # A variant says something of its own architecture alone.
    return told if told.architecture == indexed.architecture else platform


def _index(document: Mapping[str, Any]) -> Index:
    listed = _list(document["manifests"], "manifests", ENTRIES_MAX)
    entries = (_entry(_mapping(item, "manifests")) for item in listed)
    return Index(tuple(entry for entry in entries if entry is not None))


def _entry(item: Mapping[str, Any]) -> Entry | None:
    media_type = item.get("mediaType") or OCI_MANIFEST
    if media_type not in (OCI_MANIFEST, DOCKER_MANIFEST, OCI_INDEX, DOCKER_LIST):
        return None
    artifact = item.get("artifactType")
    if artifact and artifact not in IMAGE_CONFIGS:
        return None
    told = _mapping(item.get("platform"), "platform")
    names = (_text(told.get("os"), "os"), _text(told.get("architecture"), "architecture"))
    if _UNKNOWN in names:
        return None
    # Half a platform tells no more than none: the configuration knows.
    platform = _platform(told) if all(names) else None
    is_index = media_type in (OCI_INDEX, DOCKER_LIST)
    return Entry(_digest(item.get("digest")), platform, is_index)


def _manifest(document: Mapping[str, Any]) -> Manifest:
    if document.get("config") is None:
        raise _broken("manifest", "config is null or absent: build and push the image again")
    config = _descriptor(_mapping(document["config"], "config"))
    if not may_be_image(document):
        artifact = _text(document.get("artifactType"), "artifactType")
        raise _not_an_image(artifact or config.media_type)
    layers = _list(document["layers"], "layers", LAYERS_MAX)
    return Manifest(
        config,
        tuple(_descriptor(_mapping(item, "layers")) for item in layers),
        _named_texts(document.get("annotations"), "annotations"),
    )


def _not_an_image(what: str) -> ImageRejected:
    return rejection(
        NOT_AN_IMAGE,
        f"The reference names something else than an image ({what[:100]}): give the reference of a"
        " container image.",
    )


def _descriptor(item: Mapping[str, Any]) -> Layer:
    size = item.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 2**53:
        raise _broken("manifest", "a size is not a number of bytes")
    return Layer(_digest(item.get("digest")), size, _text(item.get("mediaType"), "mediaType"))


def _digest(value: object) -> str:
    try:
        return references.require_digest(_text(value, "digest"))
    except InvalidReference:
        raise _broken("manifest", "a digest is not one of SHA-256 or SHA-512") from None


def _platform(document: Mapping[str, Any]) -> Platform:
    return Platform(
        os=_text(document.get("os"), "os") or _UNKNOWN,
        architecture=_text(document.get("architecture"), "architecture") or _UNKNOWN,
        variant=_text(document.get("variant"), "variant") or None,
    )


def _env(lines: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name, _, value in (line.partition("=") for line in lines) if name}


def _ports(value: object) -> tuple[int, ...]:
    found = (_PORT.fullmatch(str(key)) for key, _ in _pairs(value, "ExposedPorts"))
    tcp = {int(match[1]) for match in found if match and match[2] in (None, "tcp")}
    return tuple(sorted(port for port in tcp if 1 <= port <= 65535))


def _has_healthcheck(value: object) -> bool:
    test = _texts(_mapping(value, "Healthcheck").get("Test"), "Test")
    return bool(test) and test[0] != "NONE"


def _parse(body: bytes, what: str) -> Mapping[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise _broken(what, "it is not JSON") from None
    if not isinstance(document, dict):
        raise _broken(what, "it is not a JSON object")
    return document


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _broken("document", f"{where} is not an object")
    return value


def _pairs(value: object, where: str) -> list[tuple[str, Any]]:
    return list(_mapping(value, where).items())


def _named_texts(value: object, where: str) -> dict[str, str]:
    return {str(key): str(text) for key, text in _pairs(value, where)}


def _list(value: object, where: str, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise _broken("document", f"{where} is not a list of at most {most}")
    return value


def _texts(value: object, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _broken("document", f"{where} is not a list of strings")
    return tuple(value)


def _text(value: object, where: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _broken("document", f"{where} is not a string")
    return value


def _broken(what: str, why: str) -> RegistryProtocolError:
    return RegistryProtocolError(f"The registry answered with a broken {what}: {why}.")


def rejection(code: str, message: str) -> ImageRejected:
    finding = Finding(code=code, severity=Severity.ERROR, message=message)
    return ImageRejected(message, findings=[finding.model_dump(mode="json")])
