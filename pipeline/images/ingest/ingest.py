"""A TAR from its sender straight into the platform's registry: one pass, no disk, no engine.

Layers are digested while they flow. What the archive holds is known when its last entry is there,
so the manifest is written last, and its tag is what makes the image visible.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from pipeline import concurrency
from pipeline.adapters.registry.push import PushSession, RegistryPush
from pipeline.archives import choice as archive_choice
from pipeline.archives import compression
from pipeline.archives.choice import Chosen, sha256
from pipeline.archives.compression import Expansion, Opener
from pipeline.archives.tar_parser import TRUNCATED, Event, TarParser
from pipeline.errors import ImageIncomplete, TarTruncated, TooLarge
from pipeline.images import findings
from pipeline.images.ingest import file_sink
from pipeline.images.ingest.file_sink import FileSink
from pipeline.oci import image_needs, manifests, platforms, repositories
from pipeline.oci.manifests import Manifest
from pipeline.oci.repositories import Place
from pipeline.ports import Layer, ResolvedImage
from pipeline.settings import Settings
from schemas.image import Finding, Platform, ReferenceParts, Severity

WINDOW_MAX: Final = 8 * 1024 * 1024
"""Of a zstd archive: what RFC 8878 asks every decoder to support."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to become of an archive. Everything may be left to the archive."""

    repository: str | None = None
    """In the platform's registry; None: among the organisation's own, by name."""
    tag: str | None = None
    name: str | None = None
    """What the image is called; None: like its RepoTag in the archive."""
    filename: str | None = None
    repo_tag: str | None = None
    """Which image of an archive with several."""
    platform: str | None = None
    """Which platform of an image with several, like `linux/arm64`."""


@dataclass(frozen=True, slots=True)
class Ingested:
    """An image that lies in the platform's registry, every digest of it checked."""

    image: ResolvedImage
    reference: str
    """`registry/repository:tag`."""
    received_bytes: int
    """As they came in: compressed, when the TAR was."""
    repo_tags: tuple[str, ...]
    """Names that the archive gives to the chosen image."""
    findings: tuple[Finding, ...]
    """None of them is an error: what is wrong with an archive is raised."""
    replaced: str | None
    """Digest that the tag named before."""
    is_first: bool
    """The repository did not have this manifest before."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """So many bytes of the archive are here."""

    count: int


@dataclass(frozen=True, slots=True)
class Complete:
    """The last byte is here, and nothing is visible yet: who stops now leaves nothing behind."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Its blobs are there, and this manifest is written next."""

    repository: str
    digest: str


IngestStep = Arrived | Complete | Placed | Ingested
"""Of taking in an archive: what arrived, once that it is complete, where it will lie, at last the
outcome."""


class Ingest:
    """Safe to share."""

    def __init__(self, registry: RegistryPush, settings: Settings, threads: Executor) -> None:
        self.pushes = registry
        """Where the images go."""
        self._max_bytes = settings.upload_max_bytes
        self._max_expanded_bytes = settings.upload_max_expanded_bytes
        self._host = platforms.parse(settings.host_platform)
        self._threads = threads

    @classmethod
    @contextmanager
    def open(cls, registry: RegistryPush, settings: Settings) -> Iterator[Ingest]:
        """With threads of its own, one per processor: what they do is computing."""
        with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="ingest") as threads:
            yield cls(registry, settings, threads)

    @property
    def registry(self) -> str:
        """`host:port` of where the images go."""
        return self.pushes.registry

    async def receive(
        self, stream: AsyncIterator[bytes], *, org: str, wish: Wish
    ) -> AsyncGenerator[IngestStep, None]:
        """Store the image of the archive. The last step is what it is.

        Layers are shared within `org`. The archive flows while the next step is waited for.

        The tag is written last. Whatever is raised, also for a sender who vanished, when cancelled
        and when closed before the end, no tag, open upload or temporary file is left behind. Raises
        the ImageRejected family, TooLarge, InvalidInput for a malformed `platform`, and the
        RegistryError family.
        """
        wanted = platforms.parse(wish.platform) if wish.platform else None
        async with self.pushes.open(repositories.pool(org)) as pushing:
            expansion = Expansion(self._max_expanded_bytes)
            sink = FileSink(pushing, expansion, self._threads)
            tar = OpenedTar(expansion, self._threads)
            async for chunk in stream:
                expansion.arrived(len(chunk))
                self.require_size(expansion.received)
                async for event in tar.feed(chunk):
                    await sink.take(event)
                yield Arrived(expansion.received)
            tar.close()
            yield Complete()
            await file_sink.add_present(pushing, sink, expansion, self._threads)
            chosen = await self._chosen(tar, sink, wish.repo_tag, wanted)
            place = _place(org, wish, chosen)
            await _prepare(pushing, chosen, sink.files.small, place)
            yield Placed(place.repository, chosen.digest)
            ingested = await _publish(pushing, chosen, place, expansion.received)
        yield ingested

    async def present(self, org: str, digests: Sequence[str]) -> dict[str, int]:
        """Size of those layers that the organisation need not send again."""
        async with self.pushes.open(repositories.pool(org)) as pushing:
            sizes = {digest: await pushing.size_of(digest) for digest in dict.fromkeys(digests)}
        return {digest: size for digest, size in sizes.items() if size is not None}

    async def withdraw(self, org: str, ingested: Ingested) -> None:
        """Take back what `receive` made visible: the tag names again what it did before.

        For callers that cannot keep the image. Raises the RegistryError family.
        """
        async with self.pushes.open(repositories.pool(org)) as pushing:
            await _withdraw(pushing, ingested)

    def require_size(self, count: int) -> None:
        """Raises TooLarge."""
        if count > self._max_bytes:
            raise TooLarge(
                f"The archive is larger than {self._max_bytes} bytes, the most that is taken in.",
                limit=self._max_bytes,
            )

    async def _chosen(
        self, tar: OpenedTar, sink: FileSink, repo_tag: str | None, wanted: Platform | None
    ) -> Chosen:
        # Hostile documents may take a while to read.
        choose = partial(
            archive_choice.choose, sink.files, repo_tag=repo_tag, platform=wanted, host=self._host
        )
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, choose)
        except ImageIncomplete as error:
            if tar.has_end:
                raise
            raise TarTruncated(TRUNCATED) from error


def _place(org: str, wish: Wish, chosen: Chosen) -> Place:
    archived = wish.repo_tag or next(iter(chosen.names), None)
    place = repositories.place(org, wish.name, archived, chosen.digest)
    return Place(wish.repository or place.repository, wish.tag or place.tag)


async def _prepare(
    pushing: PushSession, chosen: Chosen, small: Mapping[str, bytes], place: Place
) -> None:
    """Everything but the manifest: what is small is sent, all is mounted. Idempotent.

    `small` holds the contents, by path, of files that are not in the pool yet.
    """
    config = sha256(chosen.config_body)
    await pushing.put(config, chosen.config_body)
    for path, layer in dict(chosen.layers).items():
        if path in small:
            await pushing.put(layer.digest, small[path])
    for digest in dict.fromkeys((config, *(layer.digest for _, layer in chosen.layers))):
        await pushing.mount(digest, place.repository)


async def _publish(pushing: PushSession, chosen: Chosen, place: Place, received: int) -> Ingested:
    """Wholly or not at all: who is cancelled meanwhile leaves no tag."""
    made = asyncio.ensure_future(_tagged(pushing, chosen, place, received))
    try:
        return await asyncio.shield(made)
    except asyncio.CancelledError:
        await concurrency.run_to_completion(_unpublish(pushing, made))
        raise


async def _unpublish(pushing: PushSession, made: asyncio.Future[Ingested]) -> None:
    await _withdraw(pushing, await made)


async def _tagged(pushing: PushSession, chosen: Chosen, place: Place, received: int) -> Ingested:
    """The manifest under its tag: now the image is there, whole.

    What it takes to undo this is in the answer.
    """
    before = await pushing.manifest(place.repository, place.tag)
    known = await pushing.manifest(place.repository, chosen.digest)
    await pushing.put_manifest(place.repository, place.tag, chosen.manifest, chosen.media_type)
    image = _resolved(pushing.registry, chosen, place)
    return Ingested(
        image=image,
        reference=f"{pushing.registry}/{place.repository}:{place.tag}",
        received_bytes=received,
        repo_tags=chosen.names,
        findings=tuple(_softened(finding) for finding in findings.examine(image)),
        replaced=sha256(before[0]) if before else None,
        is_first=known is None,
    )


async def _withdraw(pushing: PushSession, ingested: Ingested) -> None:
    """The tag names again what it named before, unless it names something newer. Idempotent."""
    repository, tag = ingested.image.parts.repository, ingested.image.parts.tag
    digest = ingested.image.digest
    assert tag is not None, "uploaded images have a tag"
    if ingested.replaced == digest:
        return
    now = await pushing.manifest(repository, tag)
    if now is not None and sha256(now[0]) == digest:
        before = ingested.replaced and await pushing.manifest(repository, ingested.replaced)
        if before:
            await pushing.put_manifest(repository, tag, *before)
        elif not ingested.is_first:
            await pushing.delete_tag(repository, tag)
    if ingested.is_first:
        await pushing.delete_manifest(repository, digest)


def _resolved(registry: str, chosen: Chosen, place: Place) -> ResolvedImage:
    document = manifests.read_manifest(chosen.manifest)
    manifest = Manifest(
        config=Layer(sha256(chosen.config_body), len(chosen.config_body), ""),
        # All of them are here, also those whose media type says that they may be elsewhere.
        layers=tuple(Layer(layer.digest, layer.size_bytes, "") for _, layer in chosen.layers),
        annotations=document.annotations if isinstance(document, Manifest) else {},
    )
    parts = ReferenceParts(
        registry=registry, repository=place.repository, tag=place.tag, digest=chosen.digest
    )
    return image_needs.resolved(parts, manifest, replace(chosen.config, platform=chosen.platform))


def _softened(finding: Finding) -> Finding:
    """An archive that is whole is taken in, whatever its image lacks to be run as it is."""
    if finding.severity is Severity.ERROR:
        return finding.model_copy(update={"severity": Severity.WARNING})
    return finding


class OpenedTar:
    """The entries of a TAR that may come compressed, opened in threads.

    Feed it the bytes as they come. Raises the ImageRejected family.
    """

    def __init__(self, expansion: Expansion, threads: Executor | None) -> None:
        """`threads`: None is the event loop's own."""
        self._expansion = expansion
        self._threads = threads
        self._parser = TarParser()
        self._head: bytes | None = b""
        """What came before it was enough to tell the compression; None afterwards."""
        self._opener: Opener | None = None

    async def feed(self, chunk: bytes) -> AsyncIterator[Event]:
        """What `chunk` completes. Consume it wholly before feeding more."""
        if self._head is not None:
            chunk = self._head + chunk
            if len(chunk) < compression.ARCHIVE_SNIFFED:
                self._head = chunk
                return
            self._begin(chunk)
        async for piece in self._open(chunk):
            self._expansion.grew(len(piece))
            for event in self._parser.feed(piece):
                yield event

    def close(self) -> None:
        """The input is over. Raises NotATar, TarTruncated."""
        if self._head is not None:
            # Too short for any archive, compressed or not.
            for _ in self._parser.feed(self._head):
                continue
            self._begin(self._head)
        if self._opener is not None:
            self._opener.close()
        self._parser.close()

    @property
    def has_end(self) -> bool:
        """False when nothing but its files tells that it is whole."""
        return self._parser.has_end

    def _begin(self, head: bytes) -> None:
        self._head = None
        kind = compression.sniff_archive(head)
        self._opener = compression.opener(kind, window_max=WINDOW_MAX)

    async def _open(self, chunk: bytes) -> AsyncIterator[bytes]:
        if self._opener is None:
            yield chunk
            return
        pieces, loop = self._opener.feed(chunk), asyncio.get_running_loop()
        while (piece := await loop.run_in_executor(self._threads, next, pieces, None)) is not None:
            yield piece
