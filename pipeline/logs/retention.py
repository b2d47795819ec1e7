"""Output is kept by size of each container's and by age; the newest of a container goes last."""

from __future__ import annotations

import logging
from typing import Final

from pipeline.adapters.store.log_chunks import LogChunks
from pipeline.adapters.store.store import Store
from pipeline.logs.chunks import SECOND_NS
from pipeline.records.kernel import Clock
from pipeline.settings import Settings

log = logging.getLogger(__name__)

LEFT: Final = 0.9
"""Of what is allowed, after something was deleted: so that not every sweep deletes a little."""


class LogRetention:
    """`MODELYARD_LOG_MAX_BYTES` of each container, `MODELYARD_LOG_MAX_AGE_DAYS` of all."""

    def __init__(self, store: Store, settings: Settings, clock: Clock) -> None:
        self._chunks = LogChunks(store)
        self._settings = settings
        self._clock = clock

    async def sweep(self) -> None:
        """Safe to run several times at once. Raises StoreUnavailable."""
        await self._delete_old()
        most = self._settings.log_max_bytes
        for container in await self._chunks.larger(most):
            size = await self._chunks.measure(container)
            if size > most:
                await self._chunks.delete_first(container, size - int(most * LEFT))
                await self._chunks.measure(container)

    async def _delete_old(self) -> None:
        oldest = int((self._clock().timestamp() - self._settings.log_max_age_s) * SECOND_NS)
        affected: set[str] = set()
        while containers := await self._chunks.delete_older(oldest):
            affected |= containers
        for container in affected:
            await self._chunks.measure(container)
