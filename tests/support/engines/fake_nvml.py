"""A module that speaks the part of NVML that is used, with GPUs that a test describes."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml

GIB = 1 << 30
WHOLE = 0xFFFFFFFF


@dataclass
class FakeSlice:
    uuid: str
    instance: int
    name: str = "NVIDIA A100-SXM4-40GB MIG 1g.5gb"
    memory_bytes: int = 5 * GIB


@dataclass
class FakeGpu:
    """None where the GPU does not support the question, as NVML answers then."""

    uuid: str
    name: str = "NVIDIA H100 80GB HBM3"
    memory_bytes: int = 80 * GIB
    capability: tuple[int, int] = (9, 0)
    uncorrected: int | None = 0
    rows: tuple[int, int, int, int] | None = (0, 0, 0, 0)
    retired_pending: int | None = None
    slices: list[FakeSlice | None] | None = None
    """Of a GPU in MIG mode; None at a number without an instance."""
    lost: bool = False
    brand: int | None = pynvml.NVML_BRAND_NVIDIA
    busy: int | None = 0


@dataclass
class FakeNvml:
    gpus: list[FakeGpu] = field(default_factory=list)
    driver: str = "550.54.15"
    cuda: int = 12040
    init_error: int | None = None
    count_error: int | None = None
    has_events: bool = True
    opened: int = 0
    closed: int = 0
    pending: list[tuple[FakeGpu, int, int]] = field(default_factory=list)
    """Events not fetched yet: GPU, XID, GPU instance."""
    registered: list[str] = field(default_factory=list)

    NVMLError = pynvml.NVMLError

    def __getattr__(self, name: str) -> Any:
        """The constants are NVML's own."""
        if name.startswith(("NVML_", "nvmlEventType")):
            return getattr(pynvml, name)
        raise AttributeError(name)

    def nvmlInit(self) -> None:
        _raise(self.init_error)
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self.closed += 1

    def nvmlSystemGetDriverVersion(self) -> str:
        return self.driver

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        return self.cuda

    def nvmlDeviceGetCount(self) -> int:
        _raise(self.count_error)
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        if self.gpus[index].lost:
            _raise(pynvml.NVML_ERROR_GPU_IS_LOST)
        return self.gpus[index]

    def nvmlDeviceGetUUID(self, handle: FakeGpu | FakeSlice) -> str:
        if isinstance(handle, FakeGpu) and handle.lost:
            _raise(pynvml.NVML_ERROR_GPU_IS_LOST)
        return handle.uuid

    def nvmlDeviceGetName(self, handle: FakeGpu | FakeSlice) -> str:
        return handle.name

    def nvmlDeviceGetMemoryInfo(self, handle: FakeGpu | FakeSlice) -> Any:
        used = handle.memory_bytes // 4
        return SimpleNamespace(total=handle.memory_bytes, used=used)

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> FakeGpu | FakeSlice:
        slices = [slice for gpu in self.gpus for slice in gpu.slices or () if slice]
        for known in (*self.gpus, *slices):
            if known.uuid == uuid:
                return known
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)

    def nvmlDeviceGetUtilizationRates(self, handle: FakeGpu | FakeSlice) -> Any:
        return SimpleNamespace(gpu=_supported(getattr(handle, "busy", None)))

    def nvmlDeviceGetCudaComputeCapability(self, handle: FakeGpu) -> tuple[int, int]:
        return handle.capability

    def nvmlDeviceGetBrand(self, handle: FakeGpu) -> int:
        return int(_supported(handle.brand))

    def nvmlDeviceGetTotalEccErrors(self, handle: FakeGpu, kind: int, counter: int) -> int:
        assert kind == pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED
        assert counter == pynvml.NVML_VOLATILE_ECC
        return int(_supported(handle.uncorrected))

    def nvmlDeviceGetRemappedRows(self, handle: FakeGpu) -> Any:
        return _supported(handle.rows)

    def nvmlDeviceGetRetiredPagesPendingStatus(self, handle: FakeGpu) -> int:
        return int(_supported(handle.retired_pending))

    def nvmlDeviceGetMigMode(self, handle: FakeGpu) -> list[int]:
        if handle.capability < (8, 0):
            _raise(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return [int(handle.slices is not None)] * 2

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: FakeGpu) -> int:
        return len(handle.slices or ())

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: FakeGpu, number: int) -> FakeSlice:
        found = (handle.slices or [])[number]
        if found is None:
            _raise(pynvml.NVML_ERROR_NOT_FOUND)
        assert found is not None
        return found

    def nvmlDeviceGetGpuInstanceId(self, handle: FakeSlice) -> int:
        return handle.instance

    def nvmlEventSetCreate(self) -> object:
        if not self.has_events:
            _raise(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return object()

    def nvmlDeviceRegisterEvents(self, handle: FakeGpu, kinds: int, events: object) -> None:
        assert kinds == pynvml.nvmlEventTypeXidCriticalError
        self.registered.append(handle.uuid)

    def nvmlEventSetWait_v2(self, events: object, timeout_ms: int) -> Any:
        assert timeout_ms == 0
        if not self.pending:
            _raise(pynvml.NVML_ERROR_TIMEOUT)
        gpu, xid, instance = self.pending.pop(0)
        return SimpleNamespace(device=gpu, eventData=xid, gpuInstanceId=instance)


def _raise(code: int | None) -> None:
    if code is not None:
        raise pynvml.NVMLError(code)


def _supported(value: Any) -> Any:
    if value is None:
        _raise(pynvml.NVML_ERROR_NOT_SUPPORTED)
    return value
