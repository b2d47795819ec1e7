"""The GPUs of this machine, as NVML tells, or simulated ones where a setting asks for them."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

import pynvml

from pipeline.adapters.gpus_nvml import XidWatch, devices, optional
from pipeline.adapters.gpus_simulated import SimulatedInventory
from pipeline.errors import GpusUnreadable
from pipeline.ports import GpuInventory, GpuReading
from pipeline.rules import simulated_gpus
from pipeline.settings import Settings
from schemas.node import Gpu

NOTHING = GpuReading(gpus=(), driver=None, cuda=None, simulated=False)


def select(settings: Settings) -> GpuInventory:
    """Simulated when MODELYARD_SIMULATED_GPUS is set. Raises InvalidInput when it is wrong."""
    if not settings.simulated_gpus:
        return NvmlInventory()
    return SimulatedInventory(
        simulated_gpus.parse(settings.simulated_gpus),
        node=settings.node_name or socket.gethostname(),
        driver=settings.simulated_driver,
        cuda=settings.simulated_cuda,
    )


class NvmlInventory:
    """Fulfils `pipeline.ports.GpuInventory`. Blocks for milliseconds; any thread may use it.

    NVML stays open between readings, because a critical XID is an event and is told only once.
    """

    def __init__(self, nvml: Any = pynvml) -> None:
        self._nvml = nvml
        self._lock = threading.Lock()
        self._watch: XidWatch | None = None
        """None while NVML is not open."""
        self._last: dict[int, tuple[Gpu, ...]] = {}
        """By index: a GPU that is lost cannot even tell its uuid."""

    def read(self) -> GpuReading:
        """Empty on a machine without NVIDIA's driver. Raises GpusUnreadable when it is broken."""
        with self._lock:
            try:
                watch = self._watch or self._open()
                return NOTHING if watch is None else self._read(watch)
            except self._nvml.NVMLError as error:
                self._close()
                raise GpusUnreadable(
                    f"NVML cannot read the GPUs ({error}): check the NVIDIA driver."
                ) from error

    def close(self) -> None:
        with self._lock:
            self._close()

    def _open(self) -> XidWatch | None:
        """None without a driver; the next reading tries again."""
        nvml = self._nvml
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            if error.value in (
                nvml.NVML_ERROR_LIBRARY_NOT_FOUND,
                nvml.NVML_ERROR_DRIVER_NOT_LOADED,
            ):
                return None
            raise
        self._watch = XidWatch(nvml)
        return self._watch

    def _close(self) -> None:
        if self._watch is not None:
            self._watch = None
            # When the driver went away, so did everything that there is to give back.
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()

    def _read(self, watch: XidWatch) -> GpuReading:
        nvml = self._nvml
        watch.drain()
        cuda = optional(nvml, nvml.nvmlSystemGetCudaDriverVersion_v2)
        count = nvml.nvmlDeviceGetCount()
        return GpuReading(
            gpus=tuple(gpu for index in range(count) for gpu in self._at(index, watch)),
            driver=nvml.nvmlSystemGetDriverVersion(),
            cuda=f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None,
            simulated=False,
        )

    def _at(self, index: int, watch: XidWatch) -> tuple[Gpu, ...]:
        try:
            self._last[index] = tuple(devices(self._nvml, index, watch))
        except self._nvml.NVMLError as error:
            lost = error.value == self._nvml.NVML_ERROR_GPU_IS_LOST
            broken = {"healthy": False, "fault": str(error), "lost": lost}
            return tuple(gpu.model_copy(update=broken) for gpu in self._last.get(index, ()))
        return self._last[index]
