"""May this node run that container, and if not, every reason why not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final

from pipeline.containers.specs import fits_model
from pipeline.oci import dotted_versions
from pipeline.oci.image_needs import Condition, Facts, Requirement
from schemas.image import Platform
from schemas.node import Gpu, Node
from schemas.states import NodeStatus

_CORE_DUST = 1e-6
"""Sums of fractions of cores are not exact."""
_NAMES = {
    "cuda": ("cuda", "driver with CUDA"),
    "driver": ("driver", "NVIDIA driver"),
    "arch": ("compute_capability", "compute capability"),
}
"""Property of a condition → the same in codes and in words."""


@dataclass(frozen=True, slots=True)
class ResourceRequest:
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
    volume: str | None = None
    """Why, where it is because of what is kept there: `its volume /data is on one`."""
    node_labels: Mapping[str, str] = field(default_factory=dict)
    node_groups: tuple[str, ...] = ()
    """One of these nodes, or of nodes in these groups, takes it; empty: any."""
    host_ports: tuple[str, ...] = ()
    """As `8080/tcp`."""
    digest: str | None = None
    """Of the image: a node that has it starts sooner."""
    requirements: tuple[Requirement, ...] = ()
    """Of NVIDIA's container toolkit: each must hold for the node and every GPU that it gets."""

    @property
    def demands(self) -> tuple[Requirement, ...]:
        """`requirements`, and what is asked for by itself."""
        bounds = (("cuda", self.cuda), ("driver", self.driver), ("arch", self.compute_capability))
        asked = tuple(Condition(name, ">=", version) for name, version in bounds if version)
        return (*self.requirements, Requirement("", (asked,))) if asked else self.requirements


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
        return {name: fact for name, fact in asdict(self).items() if name != "lasting"}


def refusals(
    request: ResourceRequest, node: Node, *, now: datetime, grace_s: float
) -> list[Reason]:
    """All that apply; empty means that it fits."""
    reasons = [*_offline(node, now, grace_s)]
    if reasons and node.inventory.engine_version is None:
        # Its engine has never answered: what the machine has is not known yet.
        return reasons
    for check in (_cordoned, _pinned, _labels, _platform, _ports, _memory, _cpus, _gpus):
        reasons += check(request, node)
    return reasons


def closings(node: Node) -> tuple[str, ...]:
    """Why it takes nothing, whatever is asked for and however it beats; empty when it does."""
    status = () if node.status is NodeStatus.READY else (node.status.value,)
    return (*status, *(("cordoned",) if node.cordoned else ()))


def is_silent(node: Node, now: datetime, grace_s: float) -> bool:
    return (now - node.last_heartbeat).total_seconds() > grace_s


def _offline(node: Node, now: datetime, grace_s: float) -> Iterator[Reason]:
    if node.status is not NodeStatus.READY:
        detail = f"the node is {node.status}" + (f": {node.reason}" if node.reason else "")
        yield Reason("offline", detail, "READY", node.status.value, lasting=False)
        return
    if is_silent(node, now, grace_s):
        silent_s = (now - node.last_heartbeat).total_seconds()
        detail = f"the node has not been heard of for {silent_s:.0f} s"
        yield Reason("offline", detail, f"{grace_s:g} s", f"{silent_s:.0f} s", lasting=False)


def _cordoned(request: ResourceRequest, node: Node) -> Iterator[Reason]:
    if node.cordoned:
        detail = "the node is cordoned: nothing new is placed there"
        yield Reason("cordoned", detail, False, True, lasting=False)


def _ports(request: ResourceRequest, node: Node) -> Iterator[Reason]:
    leased = {port for lease in node.leases.values() for port in lease.host_ports}
    taken = [port for port in request.host_ports if port in leased]
    if taken:
        detail = f"host port {', '.join(taken)} is in use by another container"
        yield Reason("host_port", detail, list(request.host_ports), taken, lasting=False)
    foreign = [port for port in request.host_ports if port in node.ports_in_use]
    if foreign:
        detail = f"host port {', '.join(foreign)} is in use on the machine"
        yield Reason("host_port", detail, list(request.host_ports), foreign, lasting=False)


def has_port_taken(request: ResourceRequest, node: Node) -> bool:
    return any(True for _ in _ports(request, node))


def _pinned(request: ResourceRequest, node: Node) -> Iterator[Reason]:
    if request.node not in (None, node.uuid, node.name):
        detail = request.volume or f"it may run on {request.node} only"
        yield Reason("volume" if request.volume else "node", detail, request.node, node.name)
    if not node.is_in(request.node_groups):
        groups = list(request.node_groups)
        yield Reason("node_groups", "the node is in none of its groups", groups, node.uuid)


def _labels(request: ResourceRequest, node: Node) -> Iterator[Reason]:
    missing = {
        key: value for key, value in request.node_labels.items() if node.labels.get(key) != value
    }
    if missing:
        wanted = ", ".join(f"{key}={value}" for key, value in sorted(missing.items()))
        actual = {key: node.labels.get(key) for key in missing}
        yield Reason("labels", f"the node is not labelled {wanted}", missing, actual)


def _platform(request: ResourceRequest, node: Node) -> Iterator[Reason]:
    wanted, has = request.platform, node.inventory.platform
    if not runs_on(request, node):
        detail = f"the image is for {wanted}, the node is {has}"
        yield Reason("platform", detail, str(wanted), str(has))


def runs_on(request: ResourceRequest, node: Node) -> bool:
    wanted, has = request.platform, node.inventory.platform
    return not wanted or (wanted.os, wanted.architecture) == (has.os, has.architecture)


def _memory(request: ResourceRequest, node: Node) -> Iterator[Reason]:
    need, whole = request.memory_bytes, node.inventory.memory_bytes
    free = whole - node.leased_memory_bytes
    if need > 0 and need > free:
        detail = f"{_gib(need)} of memory needed, {_gib(free)} of {_gib(whole)} free"
        yield Reason("memory", detail, need, free, lasting=need > whole)


def _cpus(request: ResourceRequest, node: Node) -> Iterator[Reason]:
    need, whole = request.cpus, node.inventory.cpus
    free = whole - node.leased_cpus
    if need > 0 and need > free + _CORE_DUST:
        detail = f"{need:g} cores needed, {free:g} of {whole} free"
        yield Reason("cpu", detail, need, round(free, 3), lasting=need > whole + _CORE_DUST)


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"


# --- GPUs ---------------------------------------------------------------------------------------


def _gpus(request: ResourceRequest, node: Node) -> Iterator[Reason]:
    """Whoever needs no GPU needs no driver."""
    need, devices = request.gpus, schedulable(node)
    if not need:
        return
    if len(devices) < need:
        detail = f"{need} GPUs needed, the node has {len(devices)}"
        if node.had is not None:
            detail += f" ({len(node.had.gpus)} when all were there)"
        yield Reason("no_gpu", detail, need, len(devices))
    unlike = [*_unlike(request, devices), *_unmet_by_all(request, devices, node)]
    yield from unlike
    if need > len(devices) or unlike:
        return
    suitable = _suitable(request, node)
    if need > len(suitable):
        detail = f"{need} suitable GPUs needed, the node has {len(suitable)}"
        yield Reason("no_gpu", detail, need, len(suitable))
        return
    yield from _taken(need, suitable, node)


def schedulable(node: Node) -> list[Gpu]:
    """Every device but the physical GPUs that are offered as MIG instances."""
    parents = {gpu.parent for gpu in node.inventory.gpus}
    return [gpu for gpu in node.inventory.gpus if gpu.uuid not in parents]


def available(request: ResourceRequest, node: Node) -> list[Gpu]:
    """What it could be given now: suitable, healthy, held by nobody."""
    return [gpu for gpu in _suitable(request, node) if is_free(gpu, node)]


def _suitable(request: ResourceRequest, node: Node) -> list[Gpu]:
    """Of GPUs that a request cannot tell apart one is judged."""
    judged: dict[tuple[str | None, ...], bool] = {}
    found = []
    for gpu in schedulable(node):
        kind = (gpu.model, gpu.compute_capability, gpu.brand)
        if kind not in judged:
            judged[kind] = suits(request, gpu, node)
        if judged[kind]:
            found.append(gpu)
    return found


def is_free(gpu: Gpu, node: Node) -> bool:
    return gpu.healthy and gpu.uuid not in node.held and gpu.parent not in node.held


def suits(request: ResourceRequest, gpu: Gpu, node: Node) -> bool:
    return fits_model(request.gpu_model, gpu.model) and not _unmet(request, node, gpu)


def _unmet(request: ResourceRequest, node: Node, gpu: Gpu | None) -> list[Condition]:
    if not (demands := request.demands):
        return []
    facts = Facts(
        cuda=node.inventory.cuda,
        driver=node.inventory.driver,
        arch=gpu.compute_capability if gpu else None,
        brands=brands_of(gpu) if gpu else frozenset(),
    )
    return [condition for demand in demands for condition in demand.unmet(facts)]


def _unlike(request: ResourceRequest, devices: Sequence[Gpu]) -> Iterator[Reason]:
    if devices and not any(fits_model(request.gpu_model, gpu.model) for gpu in devices):
        models = sorted({gpu.model for gpu in devices})
        detail = f"no GPU is a {request.gpu_model}: {', '.join(models)}"
        yield Reason("gpu_model", detail, request.gpu_model, models)


def _unmet_by_all(request: ResourceRequest, devices: Sequence[Gpu], node: Node) -> Iterator[Reason]:
    """Nothing while one GPU of the model meets everything; else what the nearest one does not."""
    asked = [gpu for gpu in devices if fits_model(request.gpu_model, gpu.model)] or devices
    unmet = []
    for gpu in asked or (None,):
        unmet.append((_unmet(request, node, gpu), gpu))
        if not unmet[-1][0]:
            return
    nearest, gpu = min(unmet, key=lambda each: (len(each[0]), _weakness(each[1])))
    for condition in dict.fromkeys(nearest):
        # Where there is no GPU, that says it of what one would have to be.
        if gpu is not None or condition.name in ("cuda", "driver"):
            yield _shortcoming(condition, node, gpu)


def _weakness(gpu: Gpu | None) -> tuple[int, ...]:
    capability = dotted_versions.parse(gpu.compute_capability) if gpu else None
    return tuple(-number for number in capability or ())


def _shortcoming(condition: Condition, node: Node, gpu: Gpu | None) -> Reason:
    sign, value = condition.operator, condition.value
    if condition.name == "brand":
        required = value if sign == "=" else f"other than {value}"
        detail = f"a GPU of brand {required} needed, the node has {gpu.model if gpu else None}"
        return Reason("gpu_brand", detail, required, gpu.model if gpu else None)
    code, name = _NAMES[condition.name]
    has = node.inventory
    actual: Any = {"cuda": has.cuda, "driver": has.driver}.get(condition.name)
    if condition.name == "arch":
        actual = gpu.compute_capability if gpu else None
    required = value if sign == ">=" else f"{sign}{value}"
    if dotted_versions.parse(actual) is None:
        detail = f"{name} {required} needed, the node reports no driver"
        return Reason("driver_unknown", detail, required, None)
    where = "the best GPU" if condition.name == "arch" else "the node"
    detail = f"{name} {required} needed, {where} has {actual}"
    return Reason(f"{code}_{_direction(condition, actual)}", detail, required, actual)


def _direction(condition: Condition, actual: str) -> str:
    is_below = (dotted_versions.parse(actual) or ()) < condition.version
    low, high = ("too_low", "too_high") if condition.name == "arch" else ("too_old", "too_new")
    return low if is_below or condition.operator == ">" else high


def _taken(need: int, suitable: Sequence[Gpu], node: Node) -> Iterator[Reason]:
    free = sum(is_free(gpu, node) for gpu in suitable)
    if need > free:
        sick = sum(not gpu.healthy for gpu in suitable)
        held = len(suitable) - free - sick
        detail = f"{need} GPUs needed, {free} free ({held} in use, {sick} out of order)"
        yield Reason("no_free_gpu", detail, need, free, lasting=False)


# --- brands -------------------------------------------------------------------------------------
# NVML tells the brand of a real GPU, and agents report it. The names of models stand in for it
# where nobody asked NVML: simulated GPUs, and nodes whose agent is older than the question.
# Sources: `nvmlBrandType_t` in nvml.h; `nvidia-smi -q` (Product Name, Product Brand) as published:
# Tesla P40 (driver 535) and V100 (470, 550, 570) are `Tesla`; T4 (530), GH200 and H100 (550, 560)
# are `NVIDIA`; RTX A2000 (520) is `NVIDIA RTX`; GeForce, Quadro, TITAN and NVS are in the names.

_DATA_CENTER: Final = frozenset({"tesla", "nvidia"})
"""One family with two names: drivers call newer boards NVIDIA that older drivers called Tesla. What
NVIDIA says of the one in its images it says of the other, for the same drivers."""

_BY_NAME: Final = (
    ("geforcertx", re.compile(r"geforce rtx")),
    ("geforce", re.compile(r"geforce")),
    ("quadrortx", re.compile(r"quadro rtx")),
    ("quadro", re.compile(r"quadro")),
    ("titanrtx", re.compile(r"titan rtx")),
    ("titan", re.compile(r"titan")),
    ("nvs", re.compile(r"\bnvs\b")),
    ("grid", re.compile(r"\bgrid\b")),
    ("nvidiartx", re.compile(r"\brtx\b")),
    (
        "tesla",
        re.compile(
            r"tesla|\b(?:[kmp]4|[kmp]40|m60|[pv]100[sx]?|t4g?|a2|a10[gm]?|a16|a30x?|a40|a100x?|a800"
            r"|l[24]|l20|l40[gs]?|h20|h100|h200|h800|gh200|b100|b200|b300|gb200|gb300)\b"
        ),
    ),
)
"""Brand and what the names of its models hold, the first that fits."""

_ALSO: Final = {"geforcertx": frozenset({"geforce"}), "titanrtx": frozenset({"titan"})}
"""NVML never says these: it calls them by the shorter name."""


def brands_of(gpu: Gpu) -> frozenset[str]:
    """Under which brands NVIDIA's requirements know it, in lower case; empty when nobody knows."""
    name = gpu.model.lower()
    brand = gpu.brand or next((each for each, pattern in _BY_NAME if pattern.search(name)), None)
    if brand is None:
        return frozenset()
    if brand in _DATA_CENTER:
        return _DATA_CENTER
    return frozenset({brand}) | _ALSO.get(brand, frozenset())
