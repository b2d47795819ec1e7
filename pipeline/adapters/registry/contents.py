"""Manifests, configurations and layers of a registry, each asked for as seldom as possible.

What a digest names never changes, so it is kept; whether it is still there is asked again after
`PRESENT_S`. Everything is kept per repository: a digest opens no other one. The first request of
every look at an image goes to the registry, so that it decides who may look.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from cachetools import LRUCache, TTLCache

from pipeline.adapters.http.guarded import Reply
from pipeline.adapters.registry.auth import RegistryScope
from pipeline.adapters.registry.requests import RegistryCalls
from pipeline.adapters.registry.responses import refusal
from pipeline.errors import DigestMismatch, ImageRejected, RegistryError, RegistryProtocolError
from pipeline.oci import manifests
from pipeline.oci.manifests import Config, Index, Manifest
from pipeline.ports import Layer

PRESENT_S: Final = 60
CACHE_BYTES: Final = 32 * 1024 * 1024
TAGS_MAX: Final = 8192
PRESENT_MAX: Final = 65536

_PRESENT = frozenset({200, 206, 416})
"""416 answers the one-byte range of an empty blob."""


Key: TypeAlias = tuple[str, str, str]
"""Registry, repository, and a tag or digest."""


class _Kept(NamedTuple):
    document: Manifest | Index | Config
    bytes: int


class Place(NamedTuple):
    """A repository, and how to get at it."""

    access: RegistryScope
    repository: str

    @property
    def path(self) -> str:
        return f"/v2/{self.repository}"

    @property
    def registry(self) -> str:
        return self.access.registry

    def key(self, name: str) -> Key:
        return self.access.registry, self.repository, name


class Contents:
    """Safe to share. Raises the RegistryError family, AddressRefused and ImageRejected."""

    def __init__(
        self, calls: RegistryCalls, *, document_max_bytes: int, clock: Callable[[], float]
    ) -> None:
        self._calls = calls
        self._document_max_bytes = document_max_bytes
        self._documents: LRUCache[Key, _Kept] = LRUCache(CACHE_BYTES, lambda kept: kept.bytes)
        self._tags: LRUCache[Key, str] = LRUCache(TAGS_MAX)
        self._present: TTLCache[Key, bool] = TTLCache(PRESENT_MAX, PRESENT_S, clock)

    async def manifest(self, place: Place, target: str) -> tuple[str, Manifest | Index]:
        """The digest and content of a tag or digest, always confirmed by the registry."""
        digest = target if ":" in target else self._tags.get(place.key(target))
        known = self._known(place.key(digest)) if digest else None
        headers = {"Accept": manifests.ACCEPT}
        if digest and known:
            headers["If-None-Match"] = f'"{digest}"'
        reply = await self._calls.ask(
            place.access,
            "GET",
            f"{place.path}/manifests/{target}",
            headers=headers,
            body_max_bytes=self._document_max_bytes,
        )
        if reply.status == 304 and digest and isinstance(known, Manifest | Index):
            self._present[place.key(digest)] = True
            return digest, known
        return self._keep_manifest(place, target, reply)

    async def child(self, place: Place, digest: str) -> Manifest | Index:
        """A manifest that an index names."""
        known = self._known(place.key(digest))
        if isinstance(known, Manifest | Index) and self.is_known(place, digest):
            return known
        return (await self.manifest(place, digest))[1]

    async def config(self, place: Place, layer: Layer) -> Config:
        """Raises ImageRejected when the registry lacks it or it is too large."""
        key = place.key(layer.digest)
        known = self._known(key)
        if isinstance(known, Config) and await self.has_blob(place, layer.digest):
            return known
        if layer.size_bytes > self._document_max_bytes:
            raise _too_large("image configuration", self._document_max_bytes)
        reply = await self._calls.ask(
            place.access,
            "GET",
            f"{place.path}/blobs/{layer.digest}",
            body_max_bytes=self._document_max_bytes,
        )
        if reply.status == 404:
            raise manifests.rejection(
                "config_missing",
                "The registry does not have the image's configuration: push the image again.",
            )
        self._verified(place, layer.digest, reply, "image configuration")
        config = manifests.read_config(reply.body)
        self._keep(key, config, reply)
        return config

    def is_known(self, place: Place, digest: str) -> bool:
        """It was there a short while ago."""
        return self._present.get(place.key(digest)) is True

    async def has_blob(self, place: Place, digest: str) -> bool:
        """False only when the registry says so; denied and broken answers raise."""
        key = place.key(digest)
        if self.is_known(place, digest):
            return True
        path = f"{place.path}/blobs/{digest}"
        reply = await self._calls.ask(place.access, "HEAD", path)
        is_denied = reply.status in (401, 403) and not reply.is_foreign
        if reply.status not in (200, 404, 429) and reply.status < 500 and not is_denied:
            # Some refuse HEAD, and signed links to a storage may be signed for GET only.
            reply = await self._calls.ask(
                place.access, "GET", path, headers={"Range": "bytes=0-0"}, body_max_bytes=1
            )
        if reply.status == 404:
            return False
        if reply.status not in _PRESENT:
            raise self._refusal(place, reply, f"the layers of {place.repository}")
        self._present[key] = True
        return True

    def _keep_manifest(
        self, place: Place, target: str, reply: Reply
    ) -> tuple[str, Manifest | Index]:
        wanted = f"image {place.repository}:{target}"
        digest = self._verified(place, _digest_of(target, reply), reply, wanted)
        document = manifests.read_manifest(reply.body)
        self._keep(place.key(digest), document, reply)
        if target != digest:
            self._tags[place.key(target)] = digest
        return digest, document

    def _known(self, key: Key) -> Manifest | Index | Config | None:
        kept = self._documents.get(key)
        return kept.document if kept else None

    def _keep(self, key: Key, document: Manifest | Index | Config, reply: Reply) -> None:
        if len(reply.body) <= CACHE_BYTES:
            self._documents[key] = _Kept(document, len(reply.body))
        self._present[key] = True

    def _verified(self, place: Place, digest: str | None, reply: Reply, wanted: str) -> str:
        """The digest of a whole answer. What has the digest that is meant is called what it may."""
        if reply.status != 200:
            raise self._refusal(place, reply, wanted)
        if reply.is_truncated:
            raise _too_large(wanted, self._document_max_bytes)
        algorithm, _, expected = (digest or "sha256:").partition(":")
        found = hashlib.new(algorithm, reply.body).hexdigest()
        if digest is None or found != expected:
            if reply.headers.get("content-type", "").startswith("text/html"):
                raise RegistryProtocolError(
                    f"{place.registry} answered with a web page: check that it is an OCI registry.",
                    registry=place.registry,
                )
            if digest is not None:
                raise DigestMismatch(
                    f"The registry's content is not what its digest {digest} says: push the image"
                    " again."
                )
        return f"{algorithm}:{found}"

    def _refusal(self, place: Place, reply: Reply, wanted: str) -> RegistryError:
        return refusal(reply.status, reply.headers, registry=place.registry, wanted=wanted)


def _digest_of(target: str, reply: Reply) -> str | None:
    """The digest that the answer must have: the one asked for, or told; None when it is free."""
    if ":" in target:
        return target
    told: str = reply.headers.get("docker-content-digest", "")
    return told if told.startswith(("sha256:", "sha512:")) else None


def _too_large(what: str, most: int) -> ImageRejected:
    return manifests.rejection("document_too_large", f"The {what} exceeds {most} bytes.")
