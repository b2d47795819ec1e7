"""What an image declares of CUDA, held against its entry."""

from __future__ import annotations

import pytest

from pipeline.catalog.comparison import compare
from pipeline.catalog.requirements import Gate
from pipeline.errors import InvalidInput
from schemas.image import Needs
from tests.support import records as made

GPU = Gate((1,), True, "11.8", "520.61.05", 7.5)
CPU = Gate((1,), needs_gpu=False)
NVIDIA = "cuda>=11.8 brand=tesla,driver>=450,driver<451"


def codes(gate: Gate, **declared: str) -> list[str]:
    image = made.image(needs=Needs(), gpu_variables=declared)
    return [finding.code for finding in compare(gate, image)]


@pytest.mark.parametrize(
    ("declared", "found"),
    [
        ({}, ["cuda_undeclared"]),
        ({"CUDA_VERSION": "11.8.0"}, []),
        ({"CUDA_VERSION": "11.8.0", "NVIDIA_REQUIRE_CUDA": NVIDIA}, []),
        ({"CUDA_VERSION": "12.1.0"}, ["cuda_version_differs", "requirement_contradicts_entry"]),
        ({"NVIDIA_REQUIRE_CUDA": "cuda>=12.1"}, ["requirement_contradicts_entry"]),
        (
            {"NVIDIA_REQUIRE_CUDA": "cuda>=12.1 brand=tesla,driver>=450"},
            ["requirement_contradicts_entry"],
        ),
        ({"NVIDIA_REQUIRE_CUDA": "cuda>=12.1 driver>=515,driver<530"}, []),
        ({"NVIDIA_REQUIRE_ARCH": "arch>=8.0"}, ["requirement_contradicts_entry"]),
        ({"NVIDIA_REQUIRE_CUDA": "cuda>=12.1", "NVIDIA_DISABLE_REQUIRE": "1"}, []),
    ],
)
def test_each_contradiction_is_a_finding(declared: dict[str, str], found: list[str]) -> None:
    assert codes(GPU, **declared) == found


def test_an_entry_for_cpus_contradicts_an_image_that_demands_a_gpu() -> None:
    assert codes(CPU, NVIDIA_REQUIRE_CUDA="cuda>=11.8") == ["cpu_contradicts_image"]
    assert codes(CPU, CUDA_VERSION="11.8.0") == []


def test_a_gate_gives_gpus_to_those_that_need_one_and_to_no_others() -> None:
    assert (GPU.gpus(None, 0), GPU.gpus(None, 2), GPU.gpus(4, 0)) == (1, 2, 4)
    assert (CPU.gpus(None, 2), CPU.gpus(0, 2)) == (0, 0)
    for gate, asked in ((GPU, 0), (CPU, 1)):
        with pytest.raises(InvalidInput, match="docker/1"):
            gate.gpus(asked, 0)
