"""Bringing an image to a node, with progress that people can watch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from pipeline import tasks
from pipeline.adapters.store import EVERY_ORG
from pipeline.core.node_records import NodeRecords
from pipeline.errors import LostRace
from pipeline.ports import Credentials, Engine
from pipeline.rules import references
from schemas.container import Container
from schemas.image import Image, Progress
from schemas.states import ContainerStatus as Status

if TYPE_CHECKING:
    from pipeline.adapters.store import Store
    from pipeline.core.secrets import Secrets


AT_ONCE = 12
"""Pulls that one engine is asked for at the same time; the others wait for their turn."""


class Pulling:
    """What is present is asked of the engine each time; only what is under way is remembered."""

    def __init__(
        self,
        engine: Engine,
        store: Store,
        secrets: Secrets,
        records: NodeRecords,
        *,
        stall_s: float,
        pulled: Callable[[], None],
    ) -> None:
        """`pulled` is told that the engine has another image."""
        self._engine = engine
        self._store = store
        self._secrets = secrets
        self._records = records
        self._stall_s = stall_s
        self._pulled = pulled
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._under_way: dict[str, asyncio.Task[None]] = {}

    async def ensure(self, container: Container) -> Container:
        """Have the pinned image on the engine. Present images cost one call and no event.

        Raises PullFailed, PullDenied, DiskFull, EngineUnavailable, and NotFound and Misconfigured
        for a secret that cannot be used; LostRace when the owner changed his mind, which also ends
        the pull.
        """
        if await self._engine.image_id(container.pull) is not None:
            return container
        meter = _Meter(self._records, container)
        pull = asyncio.create_task(self._pull(meter), name=f"pull {container.pull}")
        self._under_way[container.uuid] = pull
        try:
            await pull
        except asyncio.CancelledError:
            if tasks.is_cancelled():
                raise
            raise LostRace(f"The pull for {container.uuid} was called off.") from None
        finally:
            del self._under_way[container.uuid]
        self._pulled()
        return meter.completed()

    def interrupt(self, uuid: str) -> None:
        """End the pull for a container, if there is one under way."""
        if (pull := self._under_way.get(uuid)) is not None:
            pull.cancel()

    async def _pull(self, meter: _Meter) -> None:
        container = meter.container
        credentials = await self._credentials(container)
        async with self._turns:
            meter.container = await self._records.move(container, Status.PULLING, "pull.started")
            await self._engine.pull(
                container.pull,
                credentials=credentials,
                platform=None,
                stall_s=self._stall_s,
                progress=meter.advance,
            )

    async def _credentials(self, container: Container) -> Credentials | None:
        image = await self._store.get(Image, container.image, org=EVERY_ORG)
        if image.secret is None:
            return None
        host = references.parse(container.pull).registry
        return await self._secrets.credentials_for(image.org, image.secret, host)


class _Meter:
    """Turns bytes into at most one record and one event per percent; never goes back."""

    def __init__(self, records: NodeRecords, container: Container) -> None:
        self.container = container
        self._records = records
        self._told = Progress()

    async def advance(self, done: int, total: int | None) -> None:
        percentage = min(99, done * 100 // total) if total else 0
        if percentage <= self.container.progress.percentage:
            return
        self._told = Progress(done_bytes=done, total_bytes=total, percentage=percentage)
        self.container = await self._records.advance(self.container, self._told)

    def completed(self) -> Container:
        """The container with the whole of it done, for whoever writes its record next."""
        done = self._told.total_bytes or self._told.done_bytes
        whole = Progress(done_bytes=done, total_bytes=done, percentage=100)
        return self.container.model_copy(update={"progress": whole})
