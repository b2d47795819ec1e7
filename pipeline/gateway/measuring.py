"""Tells the rest of the system how much the deployments behind one HAProxy are called."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from pipeline.adapters.gateway.haproxy import Haproxy
from pipeline.adapters.store.readings import Readings, Source
from pipeline.errors import YardError
from pipeline.gateway.figures import Figures, figures_of
from pipeline.gateway.metering import Meter, buckets_of
from pipeline.gateway.routing import sections_of, table_of

log = logging.getLogger(__name__)


class Measuring:
    """`name` tells this HAProxy from all others."""

    def __init__(
        self, readings: Readings, haproxy: Haproxy, *, name: str, interval_s: float
    ) -> None:
        self._readings = readings
        self._haproxy = haproxy
        self._name = name
        self._interval_s = interval_s
        self._meter = Meter()
        self.latest: Mapping[str, Figures] = {}
        """What HAProxy said last, by slug."""

    async def run(self) -> None:
        """Until cancelled. While HAProxy or the store are away, nothing is told."""
        while True:
            try:
                await self.measure()
            except YardError as error:
                log.warning("how much is called is not told: %s", error.message)
            await asyncio.sleep(self._interval_s)

    async def measure(self) -> None:
        """Once. Tells nothing the first time. Raises Unreachable, StoreUnavailable."""
        figures = self.latest = figures_of(await self._haproxy.statistics())
        sections = sections_of(await self._haproxy.ask("show backend"))
        latencies = {
            slug: buckets_of(await self._haproxy.ask(f"show table {table_of(slug)}"))
            for slug in figures
            if table_of(slug) in sections
        }
        self._meter.add(asyncio.get_running_loop().time(), figures, latencies)
        if (means := self._meter.means()) is not None:
            await self._readings.publish(Source.GATEWAY, self._name, means)
