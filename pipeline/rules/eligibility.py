"""May this node run that container, and if not, every reason why not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pipeline.rules import versions
from schemas.image import Platform
from schemas.node import Gpu, Node
from schemas.states import NodeStatus

_WORD = re.compile(r"[a-z0-9.]+")
_VENDORS = frozenset({"nvidia", "amd", "intel"})
_CORE_DUST = 1e-6
"""Sums of fractions of cores are not exact."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a container needs of a node. 0 and None ask for nothing."""

    gpus: int = 0
    gpu_model: str | None = None
    compute_capability: str | None = None
    driver: str | None = None
    cuda: str | None = None
    memory_bytes: int = 0
    cpus: float = 0
    platform: Platform | None = None
    node: str | None = None
    """uuid or name of the only node that may take it."""
    node_labels: Mapping[str, str] = field(default_factory=dict)
    digest: str | None = None
    """Of the image: a node that has it starts sooner."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why one node cannot take a container: a code for programs, a detail for people."""

    code: str
    detail: str
    required: Any
    actual: Any
    lasting: bool = True
    """False when waiting may help: things get free, nodes come back."""

    def facts(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "detail": self.detail,
            "required": self.required,
            "actual": self.actual,
        }


def refusals(request: Request, node: Node, *, now: datetime, grace_s: float) -> list[Reason]:
    """All that apply; empty means that it fits."""
    reasons = [*_offline(node, now, grace_s)]
    if reasons and node.inventory.engine_version is None:
        # Its engine has never answered: what the machine has is not known yet.
        return reasons
    for check in (_pinned, _labels, _platform, _memory, _cpus, _gpus, _driver, _cuda):
        reasons += check(request, node)
    return reasons


def schedulable(node: Node) -> list[Gpu]:
    """Every device but the physical GPUs that are offered as MIG instances."""
    parents = {gpu.parent for gpu in node.inventory.gpus}
    return [gpu for gpu in node.inventory.gpus if gpu.uuid not in parents]


def available(request: Request, node: Node) -> list[Gpu]:
    """What it could be given now: suitable, healthy, held by nobody."""
    return [gpu for gpu in schedulable(node) if _suits(request, gpu) and is_free(gpu, node)]


def is_free(gpu: Gpu, node: Node) -> bool:
    return gpu.healthy and gpu.uuid not in node.held and gpu.parent not in node.held


def fits_model(wanted: str | None, model: str) -> bool:
    """Ignores case, vendor and punctuation: `nvidia-a100` fits `NVIDIA A100-SXM4-80GB`."""
    if not wanted:
        return True
    return set(_WORD.findall(wanted.lower())) - _VENDORS <= set(_WORD.findall(model.lower()))


def names_model(wanted: str) -> bool:
    """A text without any word would fit every model."""
    return any(word.strip(".") for word in _WORD.findall(wanted.lower()))


def _suits(request: Request, gpu: Gpu) -> bool:
    return fits_model(request.gpu_model, gpu.model) and versions.reaches(
        gpu.compute_capability, request.compute_capability
    )


def _offline(node: Node, now: datetime, grace_s: float) -> Iterator[Reason]:
    if node.status is not NodeStatus.READY:
        detail = f"the node is {node.status}" + (f": {node.reason}" if node.reason else "")
        yield Reason("offline", detail, "READY", node.status.value, lasting=False)
        return
    silent_s = (now - node.last_heartbeat).total_seconds()
    if silent_s > grace_s:
        detail = f"the node has not been heard of for {silent_s:.0f} s"
        yield Reason("offline", detail, f"{grace_s:g} s", f"{silent_s:.0f} s", lasting=False)


def _pinned(request: Request, node: Node) -> Iterator[Reason]:
    if request.node not in (None, node.uuid, node.name):
        detail = f"it may run on {request.node} only"
        yield Reason("node", detail, request.node, node.name)


def _labels(request: Request, node: Node) -> Iterator[Reason]:
    missing = {
        key: value for key, value in request.node_labels.items() if node.labels.get(key) != value
    }
    if missing:
        wanted = ", ".join(f"{key}={value}" for key, value in sorted(missing.items()))
        actual = {key: node.labels.get(key) for key in missing}
        yield Reason("labels", f"the node is not labelled {wanted}", missing, actual)


def _platform(request: Request, node: Node) -> Iterator[Reason]:
    wanted, has = request.platform, node.inventory.platform
    if wanted and (wanted.os, wanted.architecture) != (has.os, has.architecture):
        detail = f"the image is for {wanted}, the node is {has}"
        yield Reason("platform", detail, str(wanted), str(has))


def _memory(request: Request, node: Node) -> Iterator[Reason]:
    need, whole = request.memory_bytes, node.inventory.memory_bytes
    free = whole - node.leased_memory_bytes
    if need > 0 and need > free:
        detail = f"{_gib(need)} of memory needed, {_gib(free)} of {_gib(whole)} free"
        yield Reason("memory", detail, need, free, lasting=need > whole)


def _cpus(request: Request, node: Node) -> Iterator[Reason]:
    need, whole = request.cpus, node.inventory.cpus
    free = whole - node.leased_cpus
    if need > 0 and need > free + _CORE_DUST:
        detail = f"{need:g} cores needed, {free:g} of {whole} free"
        yield Reason("cpu", detail, need, round(free, 3), lasting=need > whole + _CORE_DUST)


def _gpus(request: Request, node: Node) -> Iterator[Reason]:
    need, devices = request.gpus, schedulable(node)
    if not need:
        return
    if len(devices) < need:
        detail = f"{need} GPUs needed, the node has {len(devices)}"
        yield Reason("no_gpu", detail, need, len(devices))
    unlike = [*_unlike(request, devices)]
    yield from unlike
    suitable = [gpu for gpu in devices if _suits(request, gpu)]
    if need > len(devices) or unlike:
        return
    if need > len(suitable):
        detail = f"{need} suitable GPUs needed, the node has {len(suitable)}"
        yield Reason("no_gpu", detail, need, len(suitable))
        return
    yield from _taken(need, suitable, node)


def _unlike(request: Request, devices: Sequence[Gpu]) -> Iterator[Reason]:
    if not devices:
        return
    if not any(fits_model(request.gpu_model, gpu.model) for gpu in devices):
        models = sorted({gpu.model for gpu in devices})
        detail = f"no GPU is a {request.gpu_model}: {', '.join(models)}"
        yield Reason("gpu_model", detail, request.gpu_model, models)
    required = request.compute_capability
    if not any(versions.reaches(gpu.compute_capability, required) for gpu in devices):
        best = max(
            (gpu.compute_capability for gpu in devices), key=lambda c: versions.parse(c) or ()
        )
        detail = f"compute capability {required} needed, the best GPU has {best}"
        yield Reason("compute_capability_too_low", detail, required, best)


def _taken(need: int, suitable: Sequence[Gpu], node: Node) -> Iterator[Reason]:
    free = sum(is_free(gpu, node) for gpu in suitable)
    if need > free:
        sick = sum(not gpu.healthy for gpu in suitable)
        held = len(suitable) - free - sick
        detail = f"{need} GPUs needed, {free} free ({held} in use, {sick} out of order)"
        yield Reason("no_free_gpu", detail, need, free, lasting=False)


def _driver(request: Request, node: Node) -> Iterator[Reason]:
    yield from _software(request, request.driver, node.inventory.driver, "driver")


def _cuda(request: Request, node: Node) -> Iterator[Reason]:
    yield from _software(request, request.cuda, node.inventory.cuda, "cuda")


def _software(
    request: Request, required: str | None, actual: str | None, what: str
) -> Iterator[Reason]:
    if not request.gpus or versions.reaches(actual, required):
        return
    name = "NVIDIA driver" if what == "driver" else "driver with CUDA"
    if versions.parse(actual) is None:
        detail = f"{name} {required} needed, the node reports no driver"
        yield Reason("driver_unknown", detail, required, None)
    else:
        detail = f"{name} {required} needed, the node has {actual}"
        yield Reason(f"{what}_too_old", detail, required, actual)


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
