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


@dataclass(frozen=True, slots=True)
class _Model:
    compute_capability: str
    names: Mapping[int, str]
    """Memory in GB → name; the first is meant when no memory is given."""


_MODELS: Mapping[str, _Model] = {
    "P100": _Model("6.0", {16: "Tesla P100-PCIE-16GB"}),
    "V100": _Model("7.0", {16: "Tesla V100-SXM2-16GB", 32: "Tesla V100-SXM2-32GB"}),
    "T4": _Model("7.5", {16: "Tesla T4"}),
    "A100": _Model("8.0", {40: "NVIDIA A100-SXM4-40GB", 80: "NVIDIA A100-SXM4-80GB"}),
    "A30": _Model("8.0", {24: "NVIDIA A30"}),
    "A2": _Model("8.6", {16: "NVIDIA A2"}),
    "A10": _Model("8.6", {24: "NVIDIA A10"}),
    "A10G": _Model("8.6", {24: "NVIDIA A10G"}),
    "A40": _Model("8.6", {48: "NVIDIA A40"}),
    "RTX3090": _Model("8.6", {24: "NVIDIA GeForce RTX 3090"}),
    "L4": _Model("8.9", {24: "NVIDIA L4"}),
    "L40": _Model("8.9", {48: "NVIDIA L40"}),
    "L40S": _Model("8.9", {48: "NVIDIA L40S"}),
    "RTX4090": _Model("8.9", {24: "NVIDIA GeForce RTX 4090"}),
    "H100": _Model("9.0", {80: "NVIDIA H100 80GB HBM3", 94: "NVIDIA H100 NVL"}),
    "H200": _Model("9.0", {141: "NVIDIA H200"}),
    "B200": _Model("10.0", {180: "NVIDIA B200"}),
}


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
    known = _MODELS.get(model)
    if known is None:
        raise InvalidInput(f"{model} cannot be simulated; known are {', '.join(_MODELS)}.")
    size = size or next(iter(known.names))
    if size not in known.names:
        sizes = " or ".join(f"{model}-{one}GB" for one in known.names)
        raise InvalidInput(f"There is no {model} with {size} GB: write {sizes}.")
    return SimulatedGpu(known.names[size], size * GIB, known.compute_capability)
