from __future__ import annotations

import pynvml
import pytest

from pipeline.adapters.gpus import inventory as gpus
from pipeline.adapters.gpus.inventory import NvmlInventory, SimulatedInventory
from pipeline.errors import GpusUnreadable, InvalidInput
from pipeline.ports import GpuUse
from pipeline.settings import Settings
from schemas.node import Gpu
from tests.support.engines.fake_nvml import GIB, WHOLE, FakeGpu, FakeNvml, FakeSlice


def only(nvml: FakeNvml) -> Gpu:
    (gpu,) = NvmlInventory(nvml).read().gpus
    return gpu


def test_a_gpu_is_told_as_nvml_tells_it() -> None:
    reading = NvmlInventory(FakeNvml([FakeGpu("GPU-1"), FakeGpu("GPU-2")])).read()
    assert reading.gpus[0] == Gpu(
        uuid="GPU-1",
        index=0,
        model="NVIDIA H100 80GB HBM3",
        memory_bytes=80 * GIB,
        compute_capability="9.0",
        brand="nvidia",
    )
    assert [gpu.index for gpu in reading.gpus] == [0, 1]
    assert (reading.driver, reading.cuda, reading.simulated) == ("550.54.15", "12.4", False)


@pytest.mark.parametrize(
    ("told", "brand"),
    [
        (pynvml.NVML_BRAND_TESLA, "tesla"),
        (pynvml.NVML_BRAND_NVIDIA_RTX, "nvidiartx"),
        (pynvml.NVML_BRAND_NVIDIA_VGAMING, "cloudgaming"),
        (pynvml.NVML_BRAND_UNKNOWN, "unknown"),
        (pynvml.NVML_BRAND_COUNT + 1, None),
        (None, None),
    ],
)
def test_a_brand_is_called_as_requirements_call_it(told: int | None, brand: str | None) -> None:
    assert only(FakeNvml([FakeGpu("GPU-1", brand=told)])).brand == brand


@pytest.mark.parametrize(
    "code", [pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED]
)
def test_a_machine_without_a_driver_has_no_gpus(code: int) -> None:
    assert NvmlInventory(FakeNvml(init_error=code)).read() == gpus.NOTHING


def test_this_machine_is_read_without_an_error() -> None:
    assert NvmlInventory().read().simulated is False


def test_a_driver_that_is_loaded_later_is_found() -> None:
    nvml = FakeNvml([FakeGpu("GPU-1")], init_error=pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
    inventory = NvmlInventory(nvml)
    assert inventory.read().gpus == ()
    nvml.init_error = None
    assert len(inventory.read().gpus) == 1


def test_a_driver_that_does_not_match_its_library_is_an_error() -> None:
    nvml = FakeNvml(init_error=pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)
    with pytest.raises(GpusUnreadable, match="check the NVIDIA driver"):
        NvmlInventory(nvml).read()


def test_nvml_is_opened_once_and_again_after_an_error() -> None:
    nvml = FakeNvml([FakeGpu("GPU-1")])
    inventory = NvmlInventory(nvml)
    inventory.read()
    inventory.read()
    assert (nvml.opened, nvml.closed) == (1, 0)
    nvml.count_error = pynvml.NVML_ERROR_UNKNOWN
    with pytest.raises(GpusUnreadable):
        inventory.read()
    nvml.count_error = None
    assert len(inventory.read().gpus) == 1
    inventory.close()
    inventory.close()
    assert (nvml.opened, nvml.closed) == (2, 2)


def test_a_gpu_without_the_newer_questions_is_healthy() -> None:
    old = FakeGpu("GPU-1", capability=(6, 1), uncorrected=None, rows=None, retired_pending=None)
    nvml = FakeNvml([old], has_events=False)
    assert only(nvml).healthy
    assert nvml.registered == []


# --- slices -----------------------------------------------------------------------------------


def sliced() -> FakeGpu:
    slices = [FakeSlice("MIG-1", 7), None, FakeSlice("MIG-2", 9)]
    return FakeGpu("GPU-1", capability=(8, 0), slices=slices)


def test_a_gpu_in_mig_mode_is_offered_as_its_slices_and_never_as_a_whole() -> None:
    found = NvmlInventory(FakeNvml([sliced(), FakeGpu("GPU-2")])).read().gpus
    assert [gpu.uuid for gpu in found] == ["MIG-1", "MIG-2", "GPU-2"]
    assert [gpu.parent for gpu in found] == ["GPU-1", "GPU-1", None]
    assert found[0].memory_bytes == 5 * GIB
    assert found[0].compute_capability == "8.0"
    assert found[0].brand == "nvidia"


def test_a_gpu_in_mig_mode_without_slices_offers_nothing() -> None:
    nvml = FakeNvml([FakeGpu("GPU-1", capability=(8, 0), slices=[None] * 7)])
    assert NvmlInventory(nvml).read().gpus == ()


def test_a_fault_of_one_slice_leaves_the_others() -> None:
    nvml = FakeNvml([sliced()])
    inventory = NvmlInventory(nvml)
    inventory.read()
    nvml.pending = [(nvml.gpus[0], 63, 9)]
    assert [gpu.fault for gpu in inventory.read().gpus] == [None, "XID 63"]


def test_a_fault_of_the_whole_gpu_is_one_of_every_slice() -> None:
    nvml = FakeNvml([sliced()])
    nvml.pending = [(nvml.gpus[0], 48, WHOLE)]
    assert [gpu.fault for gpu in NvmlInventory(nvml).read().gpus] == ["XID 48", "XID 48"]
    nvml.gpus[0].uncorrected = 1
    assert not any(gpu.healthy for gpu in NvmlInventory(nvml).read().gpus)


# --- health -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpu", "fault"),
    [
        (FakeGpu("GPU-1", uncorrected=3), "3 uncorrected ECC errors since the driver was loaded"),
        (FakeGpu("GPU-1", rows=(0, 1, 0, 1)), "a memory row could not be remapped"),
        (FakeGpu("GPU-1", rows=(0, 1, 1, 0)), "memory rows wait to be remapped by a reset"),
        (
            FakeGpu("GPU-1", rows=None, retired_pending=1),
            "memory pages wait to be retired by a reboot",
        ),
        (FakeGpu("GPU-1", rows=(5, 1, 0, 0)), None),
    ],
)
def test_memory_faults_are_told(gpu: FakeGpu, fault: str | None) -> None:
    found = only(FakeNvml([gpu]))
    assert (found.healthy, found.fault) == (fault is None, fault)


def test_a_critical_xid_is_remembered() -> None:
    nvml = FakeNvml([FakeGpu("GPU-1"), FakeGpu("GPU-2")])
    inventory = NvmlInventory(nvml)
    inventory.read()
    assert nvml.registered == ["GPU-1", "GPU-2"]
    nvml.pending = [(nvml.gpus[1], 79, WHOLE)]
    for _ in range(2):
        assert [gpu.fault for gpu in inventory.read().gpus] == [None, "XID 79"]


@pytest.mark.parametrize("xid", [13, 31, 43, 45])
def test_an_xid_of_the_program_is_not_held_against_the_gpu(xid: int) -> None:
    nvml = FakeNvml([FakeGpu("GPU-1")])
    nvml.pending = [(nvml.gpus[0], xid, WHOLE)]
    assert only(nvml).healthy


def test_a_gpu_that_fell_off_the_bus_is_still_named() -> None:
    nvml = FakeNvml([FakeGpu("GPU-1"), FakeGpu("GPU-2")])
    inventory = NvmlInventory(nvml)
    inventory.read()
    nvml.gpus[0].lost = True
    nvml.pending = [(nvml.gpus[0], 79, WHOLE)]
    found = inventory.read().gpus
    assert [(gpu.uuid, gpu.healthy) for gpu in found] == [("GPU-1", False), ("GPU-2", True)]
    assert "lost" in (found[0].fault or "")


def test_a_gpu_that_was_lost_before_the_first_reading_is_left_out() -> None:
    nvml = FakeNvml([FakeGpu("GPU-1", lost=True), FakeGpu("GPU-2")])
    assert only(nvml).uuid == "GPU-2"


# --- simulated --------------------------------------------------------------------------------


def simulated(text: str = "2xH100-80GB") -> SimulatedInventory:
    settings = Settings(simulated_gpus=text, node_name="n1")
    inventory = gpus.select(settings)
    assert isinstance(inventory, SimulatedInventory)
    return inventory


def test_how_busy_a_gpu_is_and_how_full_is_told_in_percent() -> None:
    mig = FakeGpu("G", slices=[FakeSlice("MIG-1", 1)])
    gpus = [FakeGpu("GPU-1", busy=80), FakeGpu("GPU-2", busy=None), mig]
    told = NvmlInventory(FakeNvml(gpus)).use(["GPU-1", "GPU-2", "MIG-1"])
    assert told == [GpuUse(80, 25), GpuUse(None, 25), GpuUse(None, 25)]
    with pytest.raises(GpusUnreadable, match="how busy"):
        NvmlInventory(FakeNvml(gpus)).use(["GPU-3"])
    nothing = FakeNvml(init_error=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
    assert NvmlInventory(nothing).use(["GPU-1"]) == [GpuUse(None, None)]


def test_simulated_gpus_claim_what_the_setting_says() -> None:
    settings = Settings(simulated_gpus="2xT4", simulated_gpu_use=70)
    assert gpus.select(settings).use(["a", "b"]) == [GpuUse(70, 70)] * 2


def test_simulated_gpus_are_marked_and_always_the_same() -> None:
    reading = simulated().read()
    assert [gpu.uuid for gpu in reading.gpus] == ["GPU-sim-n1-0", "GPU-sim-n1-1"]
    assert all(gpu.simulated and gpu.healthy for gpu in reading.gpus)
    assert reading.simulated
    assert reading == simulated().read()


def test_a_simulated_driver_can_be_set() -> None:
    settings = Settings(simulated_gpus="1xT4", simulated_driver="470.1", simulated_cuda="11.4")
    reading = gpus.select(settings).read()
    assert (reading.driver, reading.cuda) == ("470.1", "11.4")


def test_real_gpus_are_read_unless_the_setting_asks_for_simulated_ones() -> None:
    assert isinstance(gpus.select(Settings(simulated_gpus="")), NvmlInventory)


def test_a_wrong_setting_is_told_at_once() -> None:
    with pytest.raises(InvalidInput, match="8xH100-80GB"):
        gpus.select(Settings(simulated_gpus="many"))
