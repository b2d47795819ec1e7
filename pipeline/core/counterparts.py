"""A record and the container that an engine keeps for it: found, compared, brought into line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from pipeline.core.node_records import NodeRecords
from pipeline.errors import Fenced, ForeignContainer, LostRace, NotFound
from pipeline.ports import Engine, EngineContainer
from pipeline.rules import launching, observation
from pipeline.settings import Settings
from schemas.container import Container

RACE_ATTEMPTS = 10


class Counterparts:
    """What is done about one container is done one after the other: inside `alone`.

    Different containers are handled side by side.
    """

    def __init__(
        self, engine: Engine, records: NodeRecords, *, site: launching.Site, settings: Settings
    ) -> None:
        self.engine = engine
        self.records = records
        self.site = site
        self.rules = observation.RestartRules(
            first_s=settings.restart_backoff_s,
            max_s=settings.restart_backoff_max_s,
            reset_s=settings.restart_reset_s,
        )
        self._grace_s = settings.stop_grace_s
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def alone(self, uuid: str) -> AsyncIterator[None]:
        # Whoever waits keeps the lock alive; when nobody does, it is forgotten.
        lock = self._locks.setdefault(uuid, asyncio.Lock())
        async with lock:
            yield

    def is_busy(self, uuid: str) -> bool:
        """Somebody is at it, perhaps for as long as a pull takes, and will say how it ended."""
        lock = self._locks.get(uuid)
        return lock is not None and lock.locked()

    # --- inside `alone` -----------------------------------------------------------------------

    async def find(self, container: Container) -> EngineContainer | None:
        """Its counterpart, perhaps of an older launch. Raises ForeignContainer, Fenced."""
        seen = await self.engine.inspect(launching.name_of(container.uuid, self.site.node))
        if seen is None:
            return None
        if not self.site.owns(seen):
            raise ForeignContainer(f"The name {seen.name} is held by a container of somebody else.")
        if launching.fence_of(seen) > container.fence:
            raise Fenced(f"A newer launch of {container.uuid} is on this engine already.")
        return seen

    async def of_launch(self, container: Container) -> EngineContainer | None:
        """As `find`, of the newest launch only: what an older one left says nothing about it."""
        seen = await self.find(container)
        return seen if seen is not None and launching.fence_of(seen) == container.fence else None

    async def halt(self, seen: EngineContainer) -> None:
        """Idempotent."""
        if seen.running:
            await self.engine.stop(seen.id, grace_s=self._grace_s)

    async def discard(self, seen: EngineContainer) -> None:
        """Idempotent."""
        await self.halt(seen)
        await self.engine.remove(seen.id)

    async def settle(self, uuid: str) -> Container | None:
        """Make the record say what the engine shows, and tell the followers.

        None when there is no such record, or its newest launch is on another node.
        """
        for _ in range(RACE_ATTEMPTS):
            try:
                container = await self.records.mine(uuid)
            except (NotFound, Fenced):
                return None
            seen = await self.of_launch(container)
            verdict = observation.judge(container, seen, now=self.records.clock(), rules=self.rules)
            if verdict is None:
                self.records.tell(container)
                return container
            try:
                return await self.apply(container, verdict)
            except LostRace:
                continue
        raise LostRace(f"Container {uuid} keeps changing.")

    async def apply(self, container: Container, verdict: observation.Verdict) -> Container:
        kind = verdict.status.lower()
        facts = {k: v for k, v in verdict.values.items() if k in ("ports", "exit_code")}
        return await self.records.move(
            container, verdict.status, kind, verdict.reason, dict(verdict.values), **facts
        )

    async def send_away(self, container: Container, why: str) -> Container:
        """Stop it here and have it placed anew.

        The record moves between stop and removal: whatever ends this halfway, nothing runs twice,
        and what is left on the engine is found to be outdated.
        """
        seen = await self.find(container)
        if seen is not None:
            await self.halt(seen)
        changed = await self.records.send_away(container, f"placed anew: {why}")
        if seen is not None:
            await self.engine.remove(seen.id)
        await self.records.release(container)
        return changed
