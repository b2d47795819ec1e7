"""Simulated GPUs: what `8xH100-80GB` or `2xA100-40GB,1xT4-16GB` stands for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.errors import InvalidInput

GIB = 1 << 30
MOST = 1024
"""GPUs that one node may report."""

_PART = re.compile(r"(?P<count>[1-9]\d*)x(?P<model>[A-Z0-9]+)(?:-(?P<size>\d+)GB)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SimulatedGpu:
    model: str
    """As NVML names the real one."""
    memory_bytes: int
    compute_capability: str


_MODELS: Mapping[str, tuple[str, Mapping[int, str]]] = {
    "P100": ("6.0", {16: "Tesla P100-PCIE-16GB"}),
    "V100": ("7.0", {16: "Tesla V100-SXM2-16GB", 32: "Tesla V100-SXM2-32GB"}),
    "T4": ("7.5", {16: "Tesla T4"}),
    "A100": ("8.0", {40: "NVIDIA A100-SXM4-40GB", 80: "NVIDIA A100-SXM4-80GB"}),
    "A30": ("8.0", {24: "NVIDIA A30"}),
    "A2": ("8.6", {16: "NVIDIA A2"}),
    "A10": ("8.6", {24: "NVIDIA A10"}),
    "A10G": ("8.6", {24: "NVIDIA A10G"}),
    "A40": ("8.6", {48: "NVIDIA A40"}),
    "RTX3090": ("8.6", {24: "NVIDIA GeForce RTX 3090"}),
    "L4": ("8.9", {24: "NVIDIA L4"}),
    "L40": ("8.9", {48: "NVIDIA L40"}),
    "L40S": ("8.9", {48: "NVIDIA L40S"}),
    "RTX4090": ("8.9", {24: "NVIDIA GeForce RTX 4090"}),
    "H100": ("9.0", {80: "NVIDIA H100 80GB HBM3", 94: "NVIDIA H100 NVL"}),
    "H200": ("9.0", {141: "NVIDIA H200"}),
    "B200": ("10.0", {180: "NVIDIA B200"}),
}
"""Model → compute capability, and memory in GB → name; the first is meant when none is given."""


def parse(text: str) -> tuple[SimulatedGpu, ...]:
    """In the order of the text. Raises InvalidInput that says what can be simulated."""
    gpus = tuple(gpu for part in text.split(",") for gpu in _part(part.strip()))
    if len(gpus) > MOST:
        raise InvalidInput(f"{len(gpus)} simulated GPUs are too many: at most {MOST}.")
    return gpus


def _part(text: str) -> tuple[SimulatedGpu, ...]:
    found = _PART.fullmatch(text)
    if not found:
        raise InvalidInput(
            f"{text!r} is no set of simulated GPUs: write for instance 8xH100-80GB, "
            "or 2xA100-40GB,1xT4-16GB for a mix."
        )
    gpu = _gpu(found["model"].upper(), int(found["size"]) if found["size"] else None)
    return (gpu,) * min(int(found["count"]), MOST + 1)


def _gpu(model: str, size: int | None) -> SimulatedGpu:
    if model not in _MODELS:
        raise InvalidInput(f"{model} cannot be simulated; known are {', '.join(_MODELS)}.")
    compute_capability, names = _MODELS[model]
    size = size or next(iter(names))
    if size not in names:
        sizes = " or ".join(f"{model}-{one}GB" for one in names)
        raise InvalidInput(f"There is no {model} with {size} GB: write {sizes}.")
    return SimulatedGpu(names[size], size * GIB, compute_capability)
