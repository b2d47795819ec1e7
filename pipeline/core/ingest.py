"""A TAR from its sender straight into the platform's registry: one pass, no disk, no engine.

Layers are digested while they flow. What the archive holds is known when its last entry is there,
so the manifest is written last, and its tag is what makes the image visible.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from pipeline import tasks
from pipeline.core import present_layers, registry_images
from pipeline.core.ingested import Ingested, Piece, Proving, ReceiveProgress, Wish
from pipeline.core.intake import Intake
from pipeline.core.opened_tar import OpenedTar
from pipeline.errors import TooLarge
from pipeline.rules import archive_choice, platforms, repositories
from pipeline.rules.archive_choice import Chosen
from pipeline.rules.expansion import Expansion
from pipeline.rules.repositories import Place
from pipeline.settings import Settings
from schemas.image import Platform

if TYPE_CHECKING:
    from pipeline.adapters.registry_push import Pushing, RegistryPush


class Ingest:
    """Safe to share. Fulfils `pipeline.core.ingested.Receiver`."""

    def __init__(self, registry: RegistryPush, settings: Settings, threads: Executor) -> None:
        self._registry = registry
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
        return self._registry.registry

    async def receive(
        self,
        stream: AsyncIterator[Piece],
        *,
        org: str,
        wish: Wish,
        length: int | None,
        progress: ReceiveProgress,
        proving: Proving,
    ) -> Ingested:
        """See `Receiver.receive`."""
        wanted = platforms.parse(wish.platform) if wish.platform else None
        self.require_size(length or 0)
        async with self._registry.open(repositories.pool(org)) as pushing:
            expansion = Expansion(self._max_expanded_bytes)
            intake = Intake(pushing, expansion, self._threads)
            await self._read(stream, intake, expansion, length, progress)
            await proving()
            await present_layers.add(pushing, intake, expansion, self._threads)
            chosen = await self._choose(intake, wish.repo_tag, wanted)
            place = _place(org, wish, chosen)
            await registry_images.prepare(pushing, chosen, intake.files.small, place)
            return await self._publish(pushing, chosen, place, expansion.received)

    async def present(self, org: str, digests: Sequence[str]) -> dict[str, int]:
        """Size of those layers that the organisation need not send again."""
        async with self._registry.open(repositories.pool(org)) as pushing:
            sizes = {digest: await pushing.size_of(digest) for digest in dict.fromkeys(digests)}
        return {digest: size for digest, size in sizes.items() if size is not None}

    async def withdraw(self, org: str, ingested: Ingested) -> None:
        """Take back what `receive` made visible: the tag names again what it did before.

        For callers that cannot keep the image. Raises the RegistryError family.
        """
        async with self._registry.open(repositories.pool(org)) as pushing:
            await registry_images.withdraw(pushing, ingested)

    def require_size(self, count: int) -> None:
        """Raises TooLarge."""
        if count > self._max_bytes:
            raise TooLarge(
                f"The archive is larger than {self._max_bytes} bytes, the most that is taken in.",
                limit=self._max_bytes,
            )

    async def _read(
        self,
        stream: AsyncIterator[Piece],
        intake: Intake,
        expansion: Expansion,
        length: int | None,
        progress: ReceiveProgress,
    ) -> None:
        tar = OpenedTar(expansion, self._threads)
        async for chunk in stream:
            expansion.arrived(len(chunk))
            self.require_size(expansion.received)
            async for event in tar.feed(chunk):
                await intake.take(event)
            await progress(expansion.received, length)
        tar.close()

    async def _choose(
        self, intake: Intake, repo_tag: str | None, wanted: Platform | None
    ) -> Chosen:
        # Hostile documents may take a while to read.
        choose = partial(
            archive_choice.choose,
            intake.files,
            repo_tag=repo_tag,
            platform=wanted,
            host=self._host,
        )
        return await asyncio.get_running_loop().run_in_executor(self._threads, choose)

    async def _publish(
        self, pushing: Pushing, chosen: Chosen, place: Place, received: int
    ) -> Ingested:
        """Wholly or not at all: who is cancelled meanwhile leaves no tag."""
        publishing = asyncio.ensure_future(
            registry_images.publish(pushing, chosen, place, received)
        )
        try:
            return await asyncio.shield(publishing)
        except asyncio.CancelledError:
            await tasks.uncut(self._unpublish(pushing, publishing))
            raise

    async def _unpublish(self, pushing: Pushing, publishing: asyncio.Future[Ingested]) -> None:
        await registry_images.withdraw(pushing, await publishing)


def _place(org: str, wish: Wish, chosen: Chosen) -> Place:
    archived = wish.repo_tag or next(iter(chosen.names), None)
    place = repositories.place(org, wish.name, archived, chosen.digest)
    return Place(wish.repository or place.repository, wish.tag or place.tag)
