"""Registries that speak the OCI distribution protocol: what lies there, without copying it.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Final, NamedTuple
from urllib.parse import urlencode

from pipeline import concurrency
from pipeline.adapters.http import faults
from pipeline.adapters.http.guarded import GuardedHttp, Reply
from pipeline.adapters.registry import health as registry_health
from pipeline.adapters.registry.auth import RegistryScope
from pipeline.adapters.registry.contents import Contents, Place
from pipeline.adapters.registry.requests import RegistryCalls, Scheme
from pipeline.adapters.registry.responses import next_path, refusal, unavailable
from pipeline.errors import ImageRejected, InvalidReference, ManifestNotFound, RegistryProtocolError
from pipeline.oci import image_needs, manifests, platforms, references
from pipeline.oci.manifests import Config, Entry, Index, Manifest, is_foreign
from pipeline.oci.references import DEFAULT_TAG, Reference
from pipeline.ports import Credentials, ResolvedImage
from schemas.image import Platform, ReferenceParts
from schemas.registries.registry import PingResult

PAGE: Final = 100
INDEX_DEPTH: Final = 3
"""An index may name indexes; nobody needs more of that than this."""
LOOKS_MAX: Final = 64
"""Entries that are looked into, of one image; each costs two requests."""


class RegistryClient:
    """Safe to share; keeps connections, tokens and what cannot change.

    Every call raises AddressRefused, RegistryDenied, ManifestNotFound, RegistryProtocolError and
    RegistryUnavailable (`facts["kind"]`, `facts["retry_after_s"]`). Credentials go to their own
    server and the token service that it names, nowhere else. Plain HTTP is spoken only where
    `http` allows it and only to registries without TLS.
    """

    def __init__(
        self,
        http: GuardedHttp,
        *,
        host_platform: Platform = platforms.AMD64,
        document_max_bytes: int = 4 * 1024 * 1024,
        resolve_s: float = 30,
        request_s: float = 15,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`host_platform` is preferred when nobody asks for one."""
        self._http = http
        self._clock = clock
        self._calls = RegistryCalls(http, clock=clock, request_s=request_s)
        self._contents = Contents(self._calls, document_max_bytes=document_max_bytes, clock=clock)
        self._host_platform = host_platform
        self._document_max_bytes = document_max_bytes
        self._resolve_s = resolve_s

    async def resolve(
        self,
        parts: Reference | ReferenceParts,
        *,
        platform: str | None = None,
        credentials: Credentials | None = None,
    ) -> ResolvedImage:
        """What the registry has under `parts`, for `platform` exactly, or for a node's.

        Missing layers are listed, not raised. Raises ImageRejected (`facts["findings"]`) for what
        is no image or none for the platform, DigestMismatch, and InvalidInput for a malformed
        platform.
        """
        wanted = platforms.parse(platform) if platform else None
        place = _place(parts.registry, parts.repository, credentials)
        try:
            async with asyncio.timeout(self._resolve_s):
                return await self._resolve(place, parts, wanted)
        except TimeoutError as error:
            where = self.place(parts.registry)
            raise unavailable(faults.unavailable(where, "timeout")) from error

    def place(self, registry: str) -> str:
        """`host:port`, as far as it is known; for people to read."""
        return self._calls.place(registry)

    async def ping(self, url: str, *, credentials: Credentials | None = None) -> PingResult:
        """What `<url>/v2/` answers within five seconds. Raises InvalidInput for a malformed URL."""
        return await registry_health.look(self._http, url, credentials, clock=self._clock)

    async def tags(
        self,
        registry: str,
        repository: str,
        *,
        credentials: Credentials | None = None,
        most: int,
        after: str | None = None,
        scheme: Scheme | None = None,
        prefix: str = "",
    ) -> list[str]:
        """The first `most` tags, in the registry's order, or those that follow `after`.

        `scheme` is found out when it is not given; `prefix` is the path before `/v2/`.
        """
        access = _place(registry, repository, credentials).access
        path = f"{prefix}/v2/{repository}/tags/list"
        return await self._list(access, path, "tags", most, after, scheme)

    async def catalog(
        self,
        registry: str,
        *,
        credentials: Credentials | None = None,
        most: int,
        after: str | None = None,
        scheme: Scheme | None = None,
        prefix: str = "",
    ) -> list[str]:
        """As `tags`, of repositories. Many public registries deny this."""
        access = RegistryScope(registry, "registry:catalog:*", _own(credentials, registry))
        path = f"{prefix}/v2/_catalog"
        return await self._list(access, path, "repositories", most, after, scheme)

    async def _resolve(
        self, place: Place, parts: Reference | ReferenceParts, wanted: Platform | None
    ) -> ResolvedImage:
        target = parts.digest or parts.tag or DEFAULT_TAG
        digest, document = await self._contents.manifest(place, target)
        indexed: Platform | None = None
        if is_indexed := isinstance(document, Index):
            search = IndexSearch(self._contents, place, wanted=wanted, host=self._host_platform)
            digest, indexed = await search.choose(document)
            document = await self._contents.child(place, digest)
        if isinstance(document, Index):
            raise manifests.rejection(
                "index_misleads", "The image's index calls another index an image: push it again."
            )
        config, missing = await self._look(place, document)
        manifests.require_image(document, config)
        platform = manifests.told_by_index(config.platform, indexed)
        _require_platform(platform, wanted, is_indexed=is_indexed)
        found = ReferenceParts(
            registry=parts.registry, repository=parts.repository, tag=parts.tag, digest=digest
        )
        config = replace(config, platform=platform)
        return image_needs.resolved(found, document, config, missing=missing)

    async def _look(self, place: Place, manifest: Manifest) -> tuple[Config, tuple[str, ...]]:
        """The configuration, and the digests of layers that are not there, all at once."""
        layers = dict.fromkeys(layer.digest for layer in manifest.layers if not is_foreign(layer))
        digests = [digest for digest in layers if not self._contents.is_known(place, digest)]
        config = self._contents.config(place, manifest.config)
        if not digests:
            return await config, ()
        found, *there = await concurrency.gather_or_cancel(
            config, *(self._contents.has_blob(place, digest) for digest in digests)
        )
        assert isinstance(found, Config)
        return found, tuple(d for d, is_there in zip(digests, there, strict=True) if not is_there)

    async def _list(
        self,
        access: RegistryScope,
        path: str,
        name: str,
        most: int,
        after: str | None,
        scheme: Scheme | None,
    ) -> list[str]:
        found: list[str] = []
        query = {"n": min(most, PAGE)} | ({"last": after} if after else {})
        following: str | None = f"{path}?{urlencode(query)}"
        while following is not None and len(found) < most:
            reply = await self._calls.ask(
                access, "GET", following, body_max_bytes=self._document_max_bytes, scheme=scheme
            )
            if reply.status != 200:
                raise refusal(
                    reply.status, reply.headers, registry=access.registry, wanted=f"list of {name}"
                )
            page = _page(reply, name, access.registry)
            found += page
            following = _next(reply, access.registry) if page else None
            if after in found:
                # It does not page: this is everything.
                del found[: found.index(after) + 1]
        return found[:most]


class Choice(NamedTuple):
    digest: str
    platform: Platform | None
    """As the index says it."""


class IndexSearch:
    """Which entry of an index is meant: what entries say, and where they are silent, what is there.

    Of one resolution. Raises what `Contents` raises, ImageRejected when nothing fits."""

    def __init__(
        self, contents: Contents, place: Place, *, wanted: Platform | None, host: Platform
    ) -> None:
        self._contents = contents
        self._place = place
        self._wanted = wanted
        self._host = host
        self._best = wanted or host
        self._looks = 0

    async def choose(self, index: Index) -> Choice:
        """Nothing is looked into when an entry says that it is the best choice."""
        told = [
            (entry.platform, Choice(entry.digest, entry.platform))
            for entry in index.entries
            if entry.platform and not entry.is_index
        ]
        offered = told if self._is_best_among(told) else await self._offered(index)
        return platforms.choose(offered, wanted=self._wanted, host=self._host)

    async def _offered(self, index: Index) -> list[tuple[Platform, Choice]]:
        """All that there is, up to the first that is the best choice."""
        found: list[tuple[Platform, Choice]] = []
        async for offer in self._offers(index, None, 1):
            found.append(offer)
            if self._is_best_among([offer]):
                break
        return found

    def _is_best_among(self, offered: list[tuple[Platform, Choice]]) -> bool:
        return any(platforms.fits(platform, self._best) for platform, _ in offered)

    async def _offers(
        self, index: Index, outer: Platform | None, depth: int
    ) -> AsyncIterator[tuple[Platform, Choice]]:
        if depth > INDEX_DEPTH:
            raise manifests.rejection("index_too_deep", "The image's index nests too deeply.")
        for entry in index.entries:
            told = entry.platform or outer
            if entry.platform and not entry.is_index:
                yield entry.platform, Choice(entry.digest, told)
                continue
            document = await self._look_at(entry)
            if isinstance(document, Index):
                async for offer in self._offers(document, told, depth + 1):
                    yield offer
            elif document is not None and (platform := await self._platform(document, told)):
                yield platform, Choice(entry.digest, told)

    async def _look_at(self, entry: Entry) -> Manifest | Index | None:
        """None for an artifact, and for what the registry does not have."""
        self._looks += 1
        if self._looks > LOOKS_MAX:
            raise manifests.rejection(
                "index_too_large",
                f"More than {LOOKS_MAX} entries of the image's index name no platform: name the"
                " platform in the index, or give the digest of the image.",
            )
        try:
            return await self._contents.child(self._place, entry.digest)
        except ManifestNotFound:
            return None
        except ImageRejected as error:
            if _is_artifact(error):
                return None
            raise

    async def _platform(self, manifest: Manifest, told: Platform | None) -> Platform | None:
        config = await self._contents.config(self._place, manifest.config)
        try:
            manifests.require_image(manifest, config)
        except ImageRejected:
            return None
        return manifests.told_by_index(config.platform, told)


def _is_artifact(error: ImageRejected) -> bool:
    return any(each["code"] == manifests.NOT_AN_IMAGE for each in error.facts["findings"])


def _place(registry: str, repository: str, credentials: Credentials | None) -> Place:
    scope = f"repository:{repository}:pull"
    return Place(RegistryScope(registry, scope, _own(credentials, registry)), repository)


def _own(credentials: Credentials | None, registry: str) -> Credentials | None:
    """The credentials, when they are for this registry; another one is asked anonymously."""
    if credentials is None:
        return None
    try:
        is_own = references.registry_host(credentials.server) == registry
    except InvalidReference:
        return None
    return credentials if is_own else None


def _require_platform(have: Platform, wanted: Platform | None, *, is_indexed: bool) -> None:
    if wanted is None:
        return
    if is_indexed:
        # The index told the variant; configurations often leave it out.
        wanted = wanted.model_copy(update={"variant": None})
    if not platforms.fits(have, wanted):
        raise platforms.unavailable([have], wanted)


def _page(reply: Reply, name: str, registry: str) -> list[str]:
    try:
        document = json.loads(reply.body)
    except (ValueError, RecursionError):
        document = None
    # A repository that lost its last tag is listed with null.
    listed = (document.get(name) or []) if isinstance(document, dict) else None
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        raise RegistryProtocolError(
            f"{registry} does not answer with a list of {name}: check that it is an OCI registry.",
            registry=registry,
        )
    return listed


def _next(reply: Reply, registry: str) -> str | None:
    try:
        return next_path(reply.headers.get("link", ""), reply.url)
    except ValueError:
        raise RegistryProtocolError(
            f"{registry} continues its list on another host.", registry=registry
        ) from None
