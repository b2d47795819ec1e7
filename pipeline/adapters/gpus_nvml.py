"""What NVML is asked about each GPU. `nvml` is the module `pynvml`, or one that speaks like it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from schemas.node import Gpu

_APPLICATION_XIDS = frozenset({13, 31, 43, 45, 68, 109})
"""Caused by the program that ran and not by the GPU: NVIDIA's device plugin ignores the same."""

_WHOLE = 0xFFFFFFFF
"""The GPU instance of an event that concerns the whole GPU."""


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
    fault = health_fault(nvml, handle)
    if not in_mig_mode(nvml, handle):
        fault = watch.fault_of(uuid) or fault
        yield _gpu(nvml, handle, index=index, capability=capability, fault=fault)
        return
    for slice in _mig_instances(nvml, handle):
        instance = nvml.nvmlDeviceGetGpuInstanceId(slice)
        yield _gpu(
            nvml,
            slice,
            index=index,
            capability=capability,
            fault=watch.fault_of(uuid, instance) or fault,
            parent=uuid,
        )


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


def _gpu(
    nvml: Any,
    handle: Any,
    *,
    index: int,
    capability: str,
    fault: str | None,
    parent: str | None = None,
) -> Gpu:
    return Gpu(
        uuid=nvml.nvmlDeviceGetUUID(handle),
        index=index,
        model=nvml.nvmlDeviceGetName(handle),
        memory_bytes=nvml.nvmlDeviceGetMemoryInfo(handle).total,
        compute_capability=capability,
        parent=parent,
        healthy=fault is None,
        fault=fault,
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
