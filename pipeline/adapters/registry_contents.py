"""Manifests, configurations and layers of a registry, each asked for as seldom as possible.

What a digest names never changes, so it is kept; whether it is still there is asked again after
`PRESENT_S`. Everything is kept per repository: a digest opens no other one. The first request of
every look at an image goes to the registry, so that it decides who may look.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final, NamedTuple

from pipeline.adapters.http_guard import Reply
from pipeline.adapters.registry_auth import Access
from pipeline.adapters.registry_calls import RegistryCalls
from pipeline.errors import DigestMismatch, ImageRejected, RegistryError, RegistryProtocolError
from pipeline.ports import Layer
from pipeline.rules import manifests
from pipeline.rules.bounded import Bounded
from pipeline.rules.manifests import Config, Index, Manifest
from pipeline.rules.registry_answers import refusal

PRESENT_S: Final = 60
CACHE_BYTES: Final = 32 * 1024 * 1024
TAGS_MAX: Final = 8192
PRESENT_MAX: Final = 65536

_PRESENT = frozenset({200, 206, 416})
"""416 answers the one-byte range of an empty blob."""


class Place(NamedTuple):
    """A repository, and how to get at it."""

    access: Access
    repository: str

    @property
    def path(self) -> str:
        return f"/v2/{self.repository}"

    @property
    def registry(self) -> str:
        return self.access.registry

    def key(self, name: str) -> tuple[str, str, str]:
        return self.access.registry, self.repository, name


class Contents:
    """Safe to share. Raises the RegistryError family, AddressRefused and ImageRejected."""

    def __init__(
        self, calls: RegistryCalls, *, document_max_bytes: int, clock: Callable[[], float]
    ) -> None:
        self._calls = calls
        self._document_max_bytes = document_max_bytes
        self._documents: Bounded[tuple[str, str, str], Manifest | Index | Config] = Bounded(
            CACHE_BYTES, clock=clock
        )
        self._tags: Bounded[tuple[str, str, str], str] = Bounded(TAGS_MAX, clock=clock)
        self._present: Bounded[tuple[str, str, str], bool] = Bounded(
            PRESENT_MAX, clock=clock, keep_s=PRESENT_S
        )

    async def manifest(self, place: Place, target: str) -> tuple[str, Manifest | Index]:
        """The digest and content of a tag or digest, always confirmed by the registry."""
        digest = target if ":" in target else self._tags.get(place.key(target))
        known = self._documents.get(place.key(digest)) if digest else None
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
        known = self._documents.get(place.key(digest))
        if isinstance(known, Manifest | Index) and self.is_known(place, digest):
            return known
        return (await self.manifest(place, digest))[1]

    async def config(self, place: Place, layer: Layer) -> Config:
        """Raises ImageRejected when the registry lacks it or it is too large."""
        key = place.key(layer.digest)
        known = self._documents.get(key)
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
        self._require_whole(place, reply, "image configuration")
        _verify(layer.digest, reply.body)
        config = manifests.read_config(reply.body)
        self._documents.put(key, config, weight=len(reply.body))
        self._present[key] = True
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
        self._require_whole(place, reply, f"image {place.repository}:{target}")
        digest = _digest_of(target, reply)
        _verify(digest, reply.body)
        document = manifests.read_manifest(reply.body)
        self._documents.put(place.key(digest), document, weight=len(reply.body))
        self._present[place.key(digest)] = True
        if target != digest:
            self._tags[place.key(target)] = digest
        return digest, document

    def _require_whole(self, place: Place, reply: Reply, wanted: str) -> None:
        if reply.status != 200:
            raise self._refusal(place, reply, wanted)
        if reply.is_truncated:
            raise _too_large(wanted, self._document_max_bytes)
        if reply.headers.get("content-type", "").startswith("text/html"):
            raise RegistryProtocolError(
                f"{place.registry} answered with a web page: check that it is an OCI registry.",
                registry=place.registry,
            )

    def _refusal(self, place: Place, reply: Reply, wanted: str) -> RegistryError:
        return refusal(reply.status, reply.headers, registry=place.registry, wanted=wanted)


def _digest_of(target: str, reply: Reply) -> str:
    """The digest that the answer must have: the one asked for, or told, or else that it has."""
    if ":" in target:
        return target
    told: str = reply.headers.get("docker-content-digest", "")
    if told.startswith(("sha256:", "sha512:")):
        return told
    return "sha256:" + hashlib.sha256(reply.body).hexdigest()


def _verify(digest: str, body: bytes) -> None:
    algorithm, _, expected = digest.partition(":")
    if hashlib.new(algorithm, body).hexdigest() != expected:
        raise DigestMismatch(
            f"The registry's content is not what its digest {digest} says: push the image again."
        )


def _too_large(what: str, most: int) -> ImageRejected:
    return manifests.rejection("document_too_large", f"The {what} exceeds {most} bytes.")
