"""Regular checks of everything in the registry directory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from pipeline.adapters.store import EVERY_ORG
from pipeline.core import records
from pipeline.errors import YardError
from schemas.registry import Registry

if TYPE_CHECKING:
    from pipeline.adapters.store import Store
    from pipeline.core.registry_checks import RegistryChecks

log = logging.getLogger(__name__)

SWEEPER: Final = "worker:registries"
BATCH: Final = 100
AT_ONCE: Final = 160
"""That many may hang, and a thousand are still checked within a minute. Those of one host wait for
each other within their time, which bounds this from above."""
RECORDED_AT_ONCE: Final = 16
"""Results that come in together wait for each other, not commands for them at the store."""
START_EVERY_S: Final = 0.005
"""Room for commands between the starts of two checks."""
LEASE: Final = timedelta(seconds=60)
"""How long no other sweep takes what one has begun."""


class RegistrySweeps:
    """Every worker has one; what one of them takes, no other does."""

    def __init__(self, store: Store, checks: RegistryChecks, clock: records.Clock) -> None:
        self._store = store
        self._checks = checks
        self._clock = clock

    async def sweep(self) -> None:
        """Look at everything that is due. Safe to run in several workers at once."""
        free, recording = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(RECORDED_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            async for registry in self._due():
                await free.acquire()
                task = group.create_task(self._check_quietly(registry, recording))
                task.add_done_callback(lambda _: free.release())
                await asyncio.sleep(START_EVERY_S)

    async def _due(self) -> AsyncIterator[Registry]:
        """Those that this sweep has taken, the longest overdue first."""
        while True:
            where = {"deleted": False, "check_at": {"$lte": self._clock()}}
            found = await self._store.find(
                Registry, org=EVERY_ORG, where=where, sort=[("check_at", 1)], limit=BATCH
            )
            for registry in found:
                if taken := await self._taken(registry):
                    yield taken
            if len(found) < BATCH:
                return

    async def _taken(self, registry: Registry) -> Registry | None:
        return await self._store.update(
            Registry,
            registry.uuid,
            org=registry.org,
            guard={"check_at": registry.check_at, "deleted": False},
            update={"$set": {"check_at": self._clock() + LEASE}},
        )

    async def _check_quietly(self, registry: Registry, recording: asyncio.Semaphore) -> None:
        try:
            health = await self._checks.look(registry)
            async with recording:
                await self._checks.record(registry, health, actor=SWEEPER)
        except YardError as error:
            # It is due again when the lease ends.
            log.warning("registry %s was not checked: %s", registry.uuid, error.message)
