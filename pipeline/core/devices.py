"""The GPUs of this machine, as they were when somebody last looked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from pipeline.ports import GpuInventory, GpuReading
from schemas.node import Gpu


class Devices:
    """Before the first reading nothing is known, so nothing is held against any GPU."""

    def __init__(self, inventory: GpuInventory) -> None:
        self._inventory = inventory
        self._known: dict[str, Gpu] | None = None

    async def read(self) -> GpuReading:
        """Look again. Raises GpusUnreadable; then what was known before still counts."""
        reading = await asyncio.to_thread(self._inventory.read)
        self._known = {gpu.uuid: gpu for gpu in reading.gpus}
        return reading

    def lost(self, uuids: Iterable[str]) -> str | None:
        """Says which of these GPUs are gone; None when all are there."""
        known = self._known
        if known is None:
            return None
        gone = [uuid for uuid in uuids if uuid not in known or known[uuid].lost]
        return f"lost its GPU {', '.join(gone)}" if gone else None

    def unfit(self, uuids: Iterable[str]) -> str | None:
        """As `lost`, and also when one is out of order: what runs there may go on, nothing is
        started there."""
        uuids = list(uuids)
        if (lost := self.lost(uuids)) is not None or self._known is None:
            return lost
        sick = [f"{uuid} ({self._known[uuid].fault})" for uuid in uuids if self._is_sick(uuid)]
        return f"its GPU is out of order: {', '.join(sick)}" if sick else None

    def _is_sick(self, uuid: str) -> bool:
        return self._known is not None and not self._known[uuid].healthy
