"""Which node takes a container, and which of its GPUs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from pipeline.catalog.requirements import Gate
from pipeline.oci import image_needs
from pipeline.oci.dotted_versions import parse, require_versions
from pipeline.placement.eligibility import ResourceRequest, available, suits
from schemas.container import ContainerSpec
from schemas.image import Image, Needs
from schemas.node import Gpu, Lease, Node

_PROPERTIES = {"cuda": "cuda", "driver": "driver", "arch": "compute_capability"}
"""What requirements and what needs call the same."""


@dataclass(frozen=True, slots=True)
class Choice:
    node: Node
    gpus: tuple[str, ...]
    """uuids"""


def request(spec: ContainerSpec, image: Image, gate: Gate | None = None) -> ResourceRequest:
    """What the spec and the image ask for together, or the catalogue (`gate`) instead of the
    image. Raises InvalidInput for a bad version."""
    needs, owner = image.needs, image.requested_needs or Needs()
    require_versions(needs)
    gpus = needs.gpus if spec.gpus is None else spec.gpus
    if gate is not None:
        gpus, owner = gated(gate, gpus)
    return ResourceRequest(
        gpus=gpus,
        gpu_model=spec.gpu_model,
        compute_capability=owner.compute_capability,
        driver=owner.driver,
        cuda=owner.cuda,
        requirements=_requirements(spec, image, _PROPERTIES if gate else _said(owner)),
        memory_bytes=max(spec.resources.memory_bytes, needs.memory_bytes),
        cpus=spec.resources.cpus,
        platform=image.platform,
        node=spec.node,
        node_labels=spec.node_labels,
        node_groups=tuple(spec.node_groups),
        host_ports=tuple(f"{port.host}/{port.protocol}" for port in spec.ports if port.host),
        digest=image.digest,
    )


def gated(gate: Gate, gpus: int) -> tuple[int, Needs]:
    """How many GPUs there must be, and of which kind, where the catalogue has a say: the entry
    may have changed since the number was chosen."""
    if not gate.needs_gpu:
        return 0, Needs()
    capability = gate.min_compute_capability
    return max(1, gpus), Needs(
        driver=gate.min_driver_version,
        compute_capability=None if capability is None else str(capability),
    )


def _said(owner: Needs) -> list[str]:
    return [name for name, field in _PROPERTIES.items() if getattr(owner, field)]


def _requirements(
    spec: ContainerSpec, image: Image, said: Iterable[str]
) -> tuple[image_needs.Requirement, ...]:
    """The image's, as the launch's own environment leaves them.

    What the owner of the image, or the catalogue, has `said` of a property stands in place of what
    the image says of it.
    """
    declared = image.gpu_variables
    if declared is None:
        declared = {image_needs.CUDA: _lower_bounds(image.needs)}
    return image_needs.read(declared | spec.env, without=said)


def _lower_bounds(needs: Needs) -> str:
    """All that records of before keep of a requirement."""
    bounds = ((name, getattr(needs, field)) for name, field in _PROPERTIES.items())
    known = ((name, parse(version)) for name, version in bounds)
    return ",".join(f"{name}>={'.'.join(map(str, v)) or 0}" for name, v in known if v is not None)


def signature(request: ResourceRequest) -> tuple[Any, ...]:
    """Equal for requests that ask for the same."""
    return (
        request.gpus,
        request.gpu_model,
        request.demands,
        request.platform and (request.platform.os, request.platform.architecture),
        request.memory_bytes,
        request.cpus,
        request.node,
        request.volume,
        tuple(sorted(request.node_labels.items())),
        request.node_groups,
        request.host_ports,
        request.digest,
    )


def beyond(
    request: ResourceRequest, old: Lease, node: Node
) -> tuple[ResourceRequest, tuple[str, ...]]:
    """What it takes besides what `old` holds on the node, and which GPUs of that it takes over."""
    devices = {gpu.uuid: gpu for gpu in node.inventory.gpus}
    fitting = [
        gpu
        for gpu in old.gpus
        if gpu in devices and devices[gpu].healthy and suits(request, devices[gpu], node)
    ]
    kept = tuple(fitting[: request.gpus])
    more = replace(
        request,
        gpus=request.gpus - len(kept),
        memory_bytes=max(0, request.memory_bytes - old.memory_bytes),
        cpus=max(0.0, request.cpus - old.cpus),
        host_ports=tuple(port for port in request.host_ports if port not in old.host_ports),
        node=node.uuid,
    )
    return more, kept


def without(node: Node, container: str) -> Node:
    """The node as it would be if this container held nothing of it."""
    lease = node.leases.get(container)
    if lease is None:
        return node
    return node.model_copy(
        update={
            "leases": {name: held for name, held in node.leases.items() if name != container},
            "held": {gpu: holder for gpu, holder in node.held.items() if holder != container},
            "leased_memory_bytes": node.leased_memory_bytes - lease.memory_bytes,
            "leased_cpus": node.leased_cpus - lease.cpus,
        }
    )


def with_lease(node: Node, lease: Lease) -> Node:
    """The node as it is once this is leased."""
    free = without(node, lease.container)
    return free.model_copy(
        update={
            "leases": free.leases | {lease.container: lease},
            "held": free.held | dict.fromkeys(lease.gpus, lease.container),
            "leased_memory_bytes": free.leased_memory_bytes + lease.memory_bytes,
            "leased_cpus": free.leased_cpus + lease.cpus,
        }
    )


def pick(request: ResourceRequest, node: Node) -> tuple[str, ...]:
    """Devices of one model where that is possible, the smallest that do, from opened parents."""
    if not request.gpus:
        return ()
    opened = Counter(gpu.parent for gpu in node.inventory.gpus if gpu.uuid in node.held)
    free = sorted(available(request, node), key=_kind)
    alike = [
        group
        for group in (list(gpus) for _, gpus in groupby(free, key=_kind))
        if len(group) >= request.gpus
    ]
    chosen = min(alike, key=lambda group: (group[0].memory_bytes, len(group))) if alike else free
    if alike:
        chosen.sort(key=lambda gpu: (-opened[gpu.parent] if gpu.parent else 0, gpu.index, gpu.uuid))
    return tuple(gpu.uuid for gpu in chosen[: request.gpus])


def _kind(gpu: Gpu) -> tuple[int, str]:
    return gpu.memory_bytes, gpu.model
