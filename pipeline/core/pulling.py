"""Bringing an image to a node, with progress that people can watch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.adapters.store import EVERY_ORG
from pipeline.core.node_records import NodeRecords
from pipeline.ports import Credentials, Engine
from pipeline.rules import references
from schemas.container import Container
from schemas.image import Image, Progress
from schemas.states import ContainerStatus as Status

if TYPE_CHECKING:
    from pipeline.adapters.store import Store
    from pipeline.core.secrets import Secrets


class Pulling:
    """Nothing is remembered between calls: what is present is asked of the engine each time."""

    def __init__(
        self,
        engine: Engine,
        store: Store,
        secrets: Secrets,
        records: NodeRecords,
        *,
        stall_s: float,
    ) -> None:
        self._engine = engine
        self._store = store
        self._secrets = secrets
        self._records = records
        self._stall_s = stall_s

    async def ensure(self, container: Container) -> Container:
        """Have the pinned image on the engine. Present images cost one call and no event.

        Raises PullFailed, PullDenied, DiskFull, EngineUnavailable; LostRace when the owner changed
        his mind, which also ends the pull.
        """
        if await self._engine.image_id(container.pull) is not None:
            return container
        container = await self._records.move(container, Status.PULLING, "pull.started")
        meter = _Meter(self._records, container)
        await self._engine.pull(
            container.pull,
            credentials=await self._credentials(container),
            platform=None,
            stall_s=self._stall_s,
            progress=meter.advance,
        )
        return meter.container

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

    async def advance(self, done: int, total: int | None) -> None:
        percentage = min(99, done * 100 // total) if total else 0
        if percentage <= self.container.progress.percentage:
            return
        progress = Progress(done_bytes=done, total_bytes=total, percentage=percentage)
        self.container = await self._records.advance(self.container, progress)
