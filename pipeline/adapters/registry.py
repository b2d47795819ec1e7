"""Registries that speak the OCI distribution protocol: what lies there, without copying it.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

from pipeline.adapters import http_faults, registry_health
from pipeline.adapters.http_guard import GuardedHttp, Reply
from pipeline.adapters.registry_auth import Access
from pipeline.adapters.registry_calls import RegistryCalls, Scheme
from pipeline.adapters.registry_contents import Contents, Place
from pipeline.adapters.registry_health import RegistryHealth
from pipeline.errors import InvalidReference, RegistryProtocolError
from pipeline.ports import Credentials, ResolvedImage
from pipeline.rules import links, manifests, platforms, references, requirements
from pipeline.rules.manifests import Config, Index, Manifest, is_foreign
from pipeline.rules.references import DEFAULT_TAG, Reference
from pipeline.rules.registry_answers import refusal
from schemas.image import Platform, ReferenceParts

INDEX_DEPTH: Final = 3
"""An index may name indexes; nobody needs more of that than this."""
PAGE: Final = 100

T = TypeVar("T")


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
            raise http_faults.unavailable(parts.registry, "timeout") from error

    async def ping(self, url: str, *, credentials: Credentials | None = None) -> RegistryHealth:
        """What `<url>/v2/` answers within five seconds. Raises InvalidInput for a malformed URL."""
        return await registry_health.look(self._http, url, credentials, clock=self._clock)

    async def has_blob(
        self, registry: str, repository: str, digest: str, *, credentials: Credentials | None = None
    ) -> bool:
        """False only when the registry says so. May be up to a minute old."""
        place = _place(registry, repository, credentials)
        return await self._contents.has_blob(place, references.require_digest(digest))

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
        access = Access(registry, "registry:catalog:*", _own(credentials, registry))
        path = f"{prefix}/v2/_catalog"
        return await self._list(access, path, "repositories", most, after, scheme)

    async def _resolve(
        self, place: Place, parts: Reference | ReferenceParts, wanted: Platform | None
    ) -> ResolvedImage:
        target = parts.digest or parts.tag or DEFAULT_TAG
        digest, document = await self._contents.manifest(place, target)
        is_indexed = isinstance(document, Index)
        for _ in range(INDEX_DEPTH):
            if isinstance(document, Manifest):
                break
            digest = self._choose(document, wanted)
            document = await self._contents.child(place, digest)
        if isinstance(document, Index):
            raise manifests.rejection("index_too_deep", "The image's index nests too deeply.")
        config, missing = await self._look(place, document)
        _require_platform(config.platform, wanted, is_indexed=is_indexed)
        return _resolved(parts, digest, document, config, missing)

    def _choose(self, index: Index, wanted: Platform | None) -> str:
        offered = [(entry.platform, entry.digest) for entry in index.entries if entry.platform]
        if not offered and index.entries:
            # Entries need not name a platform; the configuration tells in the end.
            return index.entries[0].digest
        return platforms.choose(offered, wanted=wanted, host=self._host_platform)

    async def _look(self, place: Place, manifest: Manifest) -> tuple[Config, tuple[str, ...]]:
        """The configuration, and the digests of layers that are not there, all at once."""
        layers = dict.fromkeys(layer.digest for layer in manifest.layers if not is_foreign(layer))
        digests = [digest for digest in layers if not self._contents.is_known(place, digest)]
        config = self._contents.config(place, manifest.config)
        if not digests:
            return await config, ()
        found, *there = await _together(
            config, *(self._contents.has_blob(place, digest) for digest in digests)
        )
        assert isinstance(found, Config)
        return found, tuple(d for d, is_there in zip(digests, there, strict=True) if not is_there)

    async def _list(
        self,
        access: Access,
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
                access,
                "GET",
                following,
                body_max_bytes=self._document_max_bytes,
                scheme=scheme,
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


def _place(registry: str, repository: str, credentials: Credentials | None) -> Place:
    scope = f"repository:{repository}:pull"
    return Place(Access(registry, scope, _own(credentials, registry)), repository)


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


def _resolved(
    parts: Reference | ReferenceParts,
    digest: str,
    manifest: Manifest,
    config: Config,
    missing: tuple[str, ...],
) -> ResolvedImage:
    return ResolvedImage(
        parts=ReferenceParts(
            registry=parts.registry, repository=parts.repository, tag=parts.tag, digest=digest
        ),
        digest=digest,
        platform=config.platform,
        size_bytes=manifest.size_bytes,
        config_digest=manifest.config.digest,
        layers=manifest.layers,
        labels=config.labels,
        env=config.env,
        needs=requirements.read_needs(config),
        has_healthcheck=config.has_healthcheck,
        command=config.command,
        user=config.user,
        missing=missing,
        annotations=manifest.annotations,
    )


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
        return links.next_path(reply.headers.get("link", ""), reply.url)
    except ValueError:
        raise RegistryProtocolError(
            f"{registry} continues its list on another host.", registry=registry
        ) from None


async def _together(*calls: Coroutine[Any, Any, T]) -> list[T]:
    """All results in order; the first failure ends the others before it is raised."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
