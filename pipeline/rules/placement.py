"""Which node takes a container, and which of its GPUs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from pipeline.errors import CannotPlace, InvalidInput, NoCapacity
from pipeline.rules import versions
from pipeline.rules.eligibility import Reason, Request, available, is_free, refusals, schedulable
from schemas.container import ContainerSpec
from schemas.image import Image, Needs
from schemas.node import Gpu, Lease, Node
from schemas.states import NodeStatus


@dataclass(frozen=True, slots=True)
class Choice:
    node: Node
    gpus: tuple[str, ...]
    """uuids"""


def request(spec: ContainerSpec, image: Image) -> Request:
    """What the spec and the image ask for together. Raises InvalidInput for a bad version."""
    needs = image.needs
    require_versions(needs)
    return Request(
        gpus=needs.gpus if spec.gpus is None else spec.gpus,
        gpu_model=spec.gpu_model,
        compute_capability=needs.compute_capability,
        driver=needs.driver,
        cuda=needs.cuda,
        memory_bytes=max(spec.resources.memory_bytes, needs.memory_bytes),
        cpus=spec.resources.cpus,
        platform=image.platform,
        node=spec.node,
        node_labels=spec.node_labels,
        digest=image.digest,
    )


def require_versions(needs: Needs) -> None:
    """Raises InvalidInput for a version that cannot be compared with any other."""
    for field in ("driver", "cuda", "compute_capability"):
        version = getattr(needs, field)
        if version and versions.parse(version) is None:
            raise InvalidInput(
                f"{version!r} is no {field} version: use dotted integers.", field=f"needs.{field}"
            )


def plan(request: Request, nodes: Iterable[Node], now: datetime, *, grace_s: float = 20) -> Choice:
    """The best node that fits: image present, then least left over, then by name.

    The same input gives the same choice. Raises NoCapacity when waiting may help (something that
    would fit is in use or away, or no node has joined) and CannotPlace when it cannot; both carry
    every reason of every node in `facts["nodes"]`.
    """
    refused: dict[str, list[Reason]] = {}
    fitting: list[Node] = []
    for node in nodes:
        if node.status is NodeStatus.DELETED:
            continue
        reasons = refusals(request, node, now=now, grace_s=grace_s)
        if reasons:
            refused[node.name] = reasons
        else:
            fitting.append(node)
    if not fitting:
        raise _refusal(refused)
    best = min(fitting, key=lambda node: _score(request, node))
    return Choice(best, _pick(request, best))


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


def _refusal(refused: dict[str, list[Reason]]) -> CannotPlace:
    nodes = {name: [reason.facts() for reason in each] for name, each in refused.items()}
    if not refused:
        return NoCapacity("No node has joined yet: it is placed when one has.", nodes=nodes)
    if any(not any(reason.lasting for reason in each) for each in refused.values()):
        return NoCapacity(
            "Every node that could run it is in use or away: it is placed when one is free.",
            nodes=nodes,
        )
    return CannotPlace("No node can run it: change what it asks for or add a node.", nodes=nodes)


def _score(request: Request, node: Node) -> tuple[bool, int, int, float, str, str]:
    """The least wins: bin packing keeps whole nodes free for those who need them."""
    free = sum(is_free(gpu, node) for gpu in schedulable(node))
    return (
        request.digest is None or request.digest not in node.images,
        free - request.gpus,
        node.inventory.memory_bytes - node.leased_memory_bytes,
        node.inventory.cpus - node.leased_cpus,
        node.name,
        node.uuid,
    )


def _pick(request: Request, node: Node) -> tuple[str, ...]:
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
