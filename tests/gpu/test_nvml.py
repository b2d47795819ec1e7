"""On a machine with an NVIDIA GPU (`make test-gpu`): our reading is that of `nvidia-smi`."""

from __future__ import annotations

import subprocess

import pytest

from pipeline.adapters.gpus.inventory import NvmlInventory

pytestmark = pytest.mark.gpu

_FIELDS = "uuid,name,memory.total,compute_cap,driver_version,mig.mode.current"


def test_the_reading_is_that_of_nvidia_smi() -> None:
    reading = NvmlInventory().read()
    rows = [row for row in smi() if row[5] != "Enabled"]
    found = [gpu for gpu in reading.gpus if gpu.parent is None]
    assert reading.gpus, "no GPU was found"
    assert [gpu.uuid for gpu in found] == [row[0] for row in rows]
    assert [gpu.model for gpu in found] == [row[1] for row in rows]
    assert [gpu.memory_bytes >> 20 for gpu in found] == [int(row[2]) for row in rows]
    assert [gpu.compute_capability for gpu in found] == [row[3] for row in rows]
    assert {reading.driver} == {row[4] for row in smi()}
    assert not reading.simulated


def test_the_cuda_version_is_major_and_minor() -> None:
    cuda = NvmlInventory().read().cuda
    assert cuda is not None
    assert [part.isdigit() for part in cuda.split(".")] == [True, True]


def test_reading_again_says_the_same() -> None:
    inventory = NvmlInventory()
    assert inventory.read() == inventory.read()
    inventory.close()


def smi() -> list[list[str]]:
    command = ["nvidia-smi", f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [[field.strip() for field in row.split(",")] for row in said.splitlines()]
