"""The GPUs of this machine, as NVML tells, or simulated ones where a setting asks for them."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pynvml

from pipeline.adapters.gpus import simulated_spec
from pipeline.errors import GpusUnreadable
from pipeline.ports import GpuInventory, GpuReading, GpuUse
from pipeline.settings import Settings
from schemas.node import Gpu

NOTHING = GpuReading(gpus=(), driver=None, cuda=None, simulated=False)
_APPLICATION_XIDS = frozenset({13, 31, 43, 45, 68, 109})
"""Caused by the program that ran and not by the GPU: NVIDIA's device plugin ignores the same."""

_BRANDS = {
    "UNKNOWN": "unknown",
    "QUADRO": "quadro",
    "TESLA": "tesla",
    "NVS": "nvs",
    "GRID": "grid",
    "GEFORCE": "geforce",
    "TITAN": "titan",
    "NVIDIA_VAPPS": "vapps",
    "NVIDIA_VPC": "vpc",
    "NVIDIA_VCS": "vcs",
    "NVIDIA_VWS": "vws",
    "NVIDIA_CLOUD_GAMING": "cloudgaming",
    "QUADRO_RTX": "quadrortx",
    "NVIDIA_RTX": "nvidiartx",
    "NVIDIA": "nvidia",
    "GEFORCE_RTX": "geforcertx",
    "TITAN_RTX": "titanrtx",
}
"""`NVML_BRAND_…` → what the requirements of NVIDIA's images call it."""

_WHOLE = 0xFFFFFFFF
"""The GPU instance of an event that concerns the whole GPU."""


def select(settings: Settings) -> GpuInventory:
    """Simulated when MODELYARD_SIMULATED_GPUS is set. Raises InvalidInput when it is wrong."""
    if not settings.simulated_gpus:
        return NvmlInventory()
    return SimulatedInventory(
        simulated_spec.parse(settings.simulated_gpus),
        node=settings.node_name or socket.gethostname(),
        driver=settings.simulated_driver,
        cuda=settings.simulated_cuda,
        use=settings.simulated_gpu_use,
    )


class SimulatedInventory:
    """GPUs that are not there, for machines without NVIDIA hardware. Marked as such everywhere.

    The same node always has the same uuids.
    """

    def __init__(
        self,
        gpus: Sequence[simulated_spec.SimulatedGpu],
        *,
        node: str,
        driver: str,
        cuda: str,
        use: float = 0,
    ) -> None:
        """`use`: percent that each claims of its time and its memory."""
        named = (
            Gpu(
                uuid=f"GPU-sim-{node}-{index}",
                index=index,
                model=gpu.model,
                memory_bytes=gpu.memory_bytes,
                compute_capability=gpu.compute_capability,
                simulated=True,
            )
            for index, gpu in enumerate(gpus)
        )
        self.reading = GpuReading(tuple(named), driver, cuda, simulated=True)
        self._use = GpuUse(busy=use, memory=use)

    def read(self) -> GpuReading:
        return self.reading

    def use(self, uuids: Sequence[str]) -> Sequence[GpuUse]:
        return [self._use] * len(uuids)


class NvmlInventory:
    """Blocks for milliseconds; any thread may use it.

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

    def use(self, uuids: Sequence[str]) -> Sequence[GpuUse]:
        """Raises GpusUnreadable, also for a uuid that NVML does not know (any more)."""
        with self._lock:
            try:
                if (self._watch or self._open()) is None:
                    return [GpuUse(None, None)] * len(uuids)
                return [self._use_of(uuid) for uuid in uuids]
            except self._nvml.NVMLError as error:
                raise GpusUnreadable(
                    f"NVML cannot tell how busy the GPUs are ({error})."
                ) from error

    def close(self) -> None:
        with self._lock:
            self._close()

    def _use_of(self, uuid: str) -> GpuUse:
        nvml = self._nvml
        handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
        rates = optional(nvml, nvml.nvmlDeviceGetUtilizationRates, handle)
        memory = optional(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
        return GpuUse(
            busy=None if rates is None else float(rates.gpu),
            memory=100 * memory.used / memory.total if memory and memory.total else None,
        )

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


def optional(nvml: Any, question: Callable[..., Any], *args: Any) -> Any:
    """None where this GPU, this driver or our permissions do not offer the answer."""
    try:
        return question(*args)
    except nvml.NVMLError as error:
        if error.value in (
            nvml.NVML_ERROR_NOT_SUPPORTED,
            nvml.NVML_ERROR_FUNCTION_NOT_FOUND,
            nvml.NVML_ERROR_NO_PERMISSION,
            nvml.NVML_ERROR_NO_DATA,
        ):
            return None
        raise


class XidWatch:
    """Collects critical XID events of all GPUs from its making on."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._faults: dict[tuple[str, int], str] = {}
        """By uuid and GPU instance."""
        self._events = optional(nvml, nvml.nvmlEventSetCreate)
        for index in range(nvml.nvmlDeviceGetCount() if self._events is not None else 0):
            self._register(index)

    def drain(self) -> None:
        """Takes what happened since the last time; never waits."""
        nvml = self._nvml
        while self._events is not None:
            try:
                event = nvml.nvmlEventSetWait_v2(self._events, 0)
                uuid = nvml.nvmlDeviceGetUUID(event.device)
            except nvml.NVMLError as error:
                # Of a GPU that fell off the bus nothing can be asked: reading it says so.
                if error.value in (nvml.NVML_ERROR_TIMEOUT, nvml.NVML_ERROR_GPU_IS_LOST):
                    return
                raise
            if event.eventData not in _APPLICATION_XIDS:
                self._faults[uuid, event.gpuInstanceId] = f"XID {event.eventData}"

    def fault_of(self, uuid: str, instance: int = _WHOLE) -> str | None:
        """Of a GPU, or of a GPU instance: then what befell the whole GPU counts too.

        It stands as long as this watch: nothing in NVML says that a GPU has recovered.
        """
        return self._faults.get((uuid, _WHOLE)) or self._faults.get((uuid, instance))

    def _register(self, index: int) -> None:
        nvml = self._nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, self._events)
        except nvml.NVMLError as error:
            if error.value == nvml.NVML_ERROR_UNINITIALIZED:
                raise
            return  # a GPU that tells no events, or is lost already: reading it says so


def devices(nvml: Any, index: int, watch: XidWatch) -> Iterator[Gpu]:
    """The GPU at `index`, or, in MIG mode, its instances and never the GPU itself."""
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    uuid = nvml.nvmlDeviceGetUUID(handle)
    capability = ".".join(map(str, nvml.nvmlDeviceGetCudaComputeCapability(handle)))
    brand = _brand(nvml, handle)
    fault = health_fault(nvml, handle)
    told = {"index": index, "compute_capability": capability, "brand": brand}
    if not in_mig_mode(nvml, handle):
        yield _gpu(nvml, handle, told, watch.fault_of(uuid) or fault)
        return
    for slice in _mig_instances(nvml, handle):
        instance = nvml.nvmlDeviceGetGpuInstanceId(slice)
        fault_of_it = watch.fault_of(uuid, instance) or fault
        yield _gpu(nvml, slice, told | {"parent": uuid}, fault_of_it)


def in_mig_mode(nvml: Any, handle: Any) -> bool:
    modes = optional(nvml, nvml.nvmlDeviceGetMigMode, handle)
    return modes is not None and bool(modes[0] == nvml.NVML_DEVICE_MIG_ENABLE)


def _mig_instances(nvml: Any, handle: Any) -> Iterator[Any]:
    for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            yield nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
        except nvml.NVMLError as error:
            if error.value != nvml.NVML_ERROR_NOT_FOUND:  # no instance at this number
                raise


def _brand(nvml: Any, handle: Any) -> str | None:
    """None where the driver does not say, or says what no requirement can name yet."""
    told = optional(nvml, nvml.nvmlDeviceGetBrand, handle)
    known = {getattr(nvml, f"NVML_BRAND_{name}"): word for name, word in _BRANDS.items()}
    return None if told is None else known.get(told)


def _gpu(nvml: Any, handle: Any, told: Mapping[str, Any], fault: str | None) -> Gpu:
    """`told` was asked of the whole GPU, `handle` may be an instance of it."""
    return Gpu(
        uuid=nvml.nvmlDeviceGetUUID(handle),
        model=nvml.nvmlDeviceGetName(handle),
        memory_bytes=nvml.nvmlDeviceGetMemoryInfo(handle).total,
        healthy=fault is None,
        fault=fault,
        **told,
    )


def health_fault(nvml: Any, handle: Any) -> str | None:
    """What NVML's counters hold against the GPU, or None."""
    errors = optional(
        nvml,
        nvml.nvmlDeviceGetTotalEccErrors,
        handle,
        nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
        nvml.NVML_VOLATILE_ECC,
    )
    if errors:
        return f"{errors} uncorrected ECC errors since the driver was loaded"
    rows = optional(nvml, nvml.nvmlDeviceGetRemappedRows, handle)
    if rows and rows[3]:
        return "a memory row could not be remapped"
    if rows and rows[2]:
        return "memory rows wait to be remapped by a reset"
    if optional(nvml, nvml.nvmlDeviceGetRetiredPagesPendingStatus, handle):
        return "memory pages wait to be retired by a reboot"
    return None
