"""Bringing an image to a node, with progress that people can watch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from pipeline import concurrency
from pipeline.adapters.store.store import EVERY_ORG, Store
from pipeline.agent.assets import Assets
from pipeline.agent.reconciler import NodeContainers
from pipeline.catalog.gates import secret_of
from pipeline.concurrency import SharedReads
from pipeline.containers import pulls
from pipeline.containers.changes import moved
from pipeline.errors import LostRace, PullDenied
from pipeline.oci import references
from pipeline.ports import Engine
from pipeline.records.kernel import Change
from pipeline.records.messages import event
from pipeline.secrets.service import Secrets
from pipeline.settings import Settings
from pipeline.telemetry import TRANSFERRED, count
from schemas.base import Progress
from schemas.container import Container
from schemas.image import Image
from schemas.states import ContainerStatus as Status

PULLS = 12
"""Pulls that one engine is asked for at the same time; the others wait for their turn."""


class Pulling:
    """What is present is asked of the engine each time, once for all launches that ask together;
    only what is under way is remembered."""

    def __init__(
        self,
        engine: Engine,
        store: Store,
        secrets: Secrets,
        containers: NodeContainers,
        assets: Assets,
        *,
        settings: Settings,
        pulled: Callable[[], None],
    ) -> None:
        """`pulled` is told that the engine has another image."""
        self._engine = engine
        self._store = store
        self._secrets = secrets
        self._containers = containers
        self.assets = assets
        self._stall_s = settings.pull_stall_s
        self._progress_s = settings.progress_interval_s
        self._own_host = settings.registry.lower()
        self._pulled = pulled
        self._slots = asyncio.Semaphore(PULLS)
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._present: SharedReads[str | None] = SharedReads()

    async def ensure(self, container: Container) -> Container:
        """Have the pinned image on the engine, and its assets on the node until they are released.

        Present images cost one call at most, and no event.

        Raises PullFailed, PullDenied, DiskFull, EngineUnavailable, and NotFound and Misconfigured
        for a secret that cannot be used; LostRace when the owner changed his mind, which also ends
        the pull.
        """
        found = partial(self._engine.image_id, container.pull)
        is_present = await self._present.of(container.pull, found) is not None
        if is_present and not container.spec.assets:
            return container
        meter = _Meter(self._containers, container, self._progress_s)
        work = self._bring(meter, is_present=is_present)
        pull = asyncio.create_task(work, name=f"pull {container.pull}")
        self._under_way[container.uuid] = pull
        try:
            await pull
        except asyncio.CancelledError:
            if concurrency.is_cancelled():
                raise
            raise LostRace(f"The pull for {container.uuid} was called off.") from None
        finally:
            del self._under_way[container.uuid]
        return meter.container

    def interrupt(self, uuid: str) -> None:
        """End the pull for a container, if there is one under way."""
        if (pull := self._under_way.get(uuid)) is not None:
            pull.cancel()

    async def _bring(self, meter: _Meter, *, is_present: bool) -> None:
        if not is_present:
            await self._pull(meter)
            self._pulled()
            meter.container = meter.completed()
        meter.container = await self.assets.fetch(meter.container)

    async def _pull(self, meter: _Meter) -> None:
        container = meter.container
        image = await self._store.get(Image, container.image, org=EVERY_ORG)
        host = references.parse(container.pull).registry
        secret = None if host == self._own_host else await secret_of(self._store, image)
        key, credentials = None, None
        if host == self._own_host:
            key, credentials = pulls.login(host, container)
        elif secret is not None:
            credentials = await self._secrets.credentials_for(image.org, secret, host)
        async with self._slots:
            begun = moved(Status.PULLING, values={"pull_key": key}, kind="pull.started")
            meter.container = await self._containers.commit(container, begun)
            try:
                await self._engine.pull(
                    container.pull,
                    credentials=credentials,
                    platform=None,
                    stall_s=self._stall_s,
                    progress=meter.advance,
                )
            except PullDenied as error:
                if secret is None:
                    raise
                raise await self._secrets.blamed(image.org, secret, host, error) from error


class _Meter:
    """Turns bytes into at most one write per percent, and one event per `interval_s`.

    It never goes back.
    """

    def __init__(self, containers: NodeContainers, container: Container, interval_s: float) -> None:
        self.container = container
        self._containers = containers
        self._latest = Progress()
        self._interval_s = interval_s
        self._tell_at = 0.0
        self._done = 0

    async def advance(self, done: int, total: int | None) -> None:
        count(TRANSFERRED, "pull", by=max(done - self._done, 0))
        self._done = max(done, self._done)
        percentage = min(99, done * 100 // total) if total else 0
        if percentage <= self.container.progress.percentage:
            return
        self._latest = Progress(done_bytes=done, total_bytes=total, percentage=percentage)
        progress, now = self._latest.model_dump(), asyncio.get_running_loop().time()
        send = [event("pull.progressed", progress=progress)] if now >= self._tell_at else []
        if send:
            self._tell_at = now + self._interval_s
        change = Change({"progress": progress}, Status.PULLING, send=send)
        self.container = await self._containers.commit(self.container, change)

    def completed(self) -> Container:
        """The container with the whole of it done, for whoever writes its record next."""
        done = self._latest.total_bytes or self._latest.done_bytes
        whole = Progress(done_bytes=done, total_bytes=done, percentage=100)
        return self.container.model_copy(update={"progress": whole})
