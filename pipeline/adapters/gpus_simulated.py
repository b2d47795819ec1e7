"""GPUs that are not there, for machines without NVIDIA hardware. Marked as such everywhere."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from pipeline.errors import NotFound
from pipeline.ports import GpuReading
from pipeline.rules.simulated_gpus import SimulatedGpu
from schemas.node import Gpu


class SimulatedInventory:
    """Fulfils `pipeline.ports.GpuInventory`. The same node always has the same uuids.

    `fail`, `heal` and `lose` do to a GPU what hardware does.
    """

    def __init__(self, gpus: Sequence[SimulatedGpu], *, node: str, driver: str, cuda: str) -> None:
        self._driver = driver
        self._cuda = cuda
        self._lock = threading.Lock()
        self._gpus = {gpu.uuid: gpu for gpu in _named(gpus, node)}

    def read(self) -> GpuReading:
        with self._lock:
            return GpuReading(tuple(self._gpus.values()), self._driver, self._cuda, simulated=True)

    def fail(self, uuid: str, fault: str) -> None:
        """Raises NotFound when there is no such GPU (any more)."""
        self._change(uuid, healthy=False, fault=fault)

    def heal(self, uuid: str) -> None:
        self._change(uuid, healthy=True, fault=None)

    def lose(self, uuid: str) -> None:
        """It is not reported any more. Idempotent."""
        with self._lock:
            self._gpus.pop(uuid, None)

    def _change(self, uuid: str, **values: object) -> None:
        with self._lock:
            if uuid not in self._gpus:
                raise NotFound(f"There is no simulated GPU {uuid}.")
            self._gpus[uuid] = self._gpus[uuid].model_copy(update=values)


def _named(gpus: Sequence[SimulatedGpu], node: str) -> list[Gpu]:
    return [
        Gpu(
            uuid=f"GPU-sim-{node}-{index}",
            index=index,
            model=gpu.model,
            memory_bytes=gpu.memory_bytes,
            compute_capability=gpu.compute_capability,
            simulated=True,
        )
        for index, gpu in enumerate(gpus)
    ]
