"""Simulated GPUs that a test does to what hardware does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pipeline.adapters.gpus.inventory import SimulatedInventory
from schemas.node import Gpu


class FaultyInventory(SimulatedInventory):
    def fail(self, uuid: str, fault: str) -> None:
        self._become(
            gpu.model_copy(update={"healthy": False, "fault": fault}) if gpu.uuid == uuid else gpu
            for gpu in self.reading.gpus
        )

    def lose(self, uuid: str) -> None:
        """It is not reported any more."""
        self._become(gpu for gpu in self.reading.gpus if gpu.uuid != uuid)

    def _become(self, gpus: Iterable[Gpu]) -> None:
        self.reading = replace(self.reading, gpus=tuple(gpus))
