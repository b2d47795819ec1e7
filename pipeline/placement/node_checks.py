"""Which nodes could run an image now, and for each other one every reason why not: the check of the
scheduler, asked without placing anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.adapters.store.store import EVERY_ORG
from pipeline.catalog.gates import Gates
from pipeline.catalog.requirements import Gate
from pipeline.oci import dotted_versions, image_needs
from pipeline.placement import planning
from pipeline.placement.eligibility import Reason, ResourceRequest, refusals
from pipeline.records.kernel import Records, living
from schemas.container import ContainerSpec
from schemas.image import Image
from schemas.node import Node
from schemas.states import NodeStatus


@dataclass(frozen=True, slots=True)
class Requirements:
    """Versions are None where no GPU is needed, or where nothing is said of them."""

    gpu: bool
    cuda_version: str | None = None
    min_driver_version: str | None = None
    min_compute_capability: float | None = None


@dataclass(frozen=True, slots=True)
class NodeCheck:
    requirements: Requirements
    nodes: Sequence[tuple[Node, Sequence[Reason]]]
    """By name; without a reason a node is eligible."""


class NodeChecks:
    """Looks at the nodes as they are stored now; leases nothing."""

    def __init__(self, records: Records, gates: Gates, *, grace_s: float) -> None:
        self._store = records.store
        self._clock = records.clock
        self._gates = gates
        self._grace_s = grace_s

    async def of_image(self, image: Image) -> NodeCheck:
        """For a container of the image that asks for nothing itself. Raises InvalidInput for an
        image whose versions cannot be compared."""
        gate = await self._gates.of(image)
        spec = ContainerSpec(image=image.uuid, gpus=image.defaults.gpus)
        wants = planning.request(spec, image, gate)
        needed = _required(image, wants) if gate is None else _gated(gate)
        return NodeCheck(needed, await self._look(wants))

    async def of_gate(self, gate: Gate, image: Image | None) -> NodeCheck:
        """For an entry of the catalogue; `image` is what it stands for, once that is known."""
        if image is None:
            gpus, needs = planning.gated(gate, 0)
            wants = ResourceRequest(
                gpus=gpus, driver=needs.driver, compute_capability=needs.compute_capability
            )
        else:
            wants = planning.request(ContainerSpec(image=image.uuid), image, gate)
        return NodeCheck(_gated(gate), await self._look(wants))

    async def _look(self, wants: ResourceRequest) -> list[tuple[Node, Sequence[Reason]]]:
        where = living(NodeStatus.DELETED)
        nodes = await self._store.find(Node, org=EVERY_ORG, where=where, sort=[("name", 1)])
        now = self._clock()
        return [(node, refusals(wants, node, now=now, grace_s=self._grace_s)) for node in nodes]


def _gated(gate: Gate) -> Requirements:
    return Requirements(
        gate.needs_gpu, gate.cuda_version, gate.min_driver_version, gate.min_compute_capability
    )


def _required(image: Image, wants: ResourceRequest) -> Requirements:
    if not wants.gpus:
        return Requirements(gpu=False)
    if image_needs.is_disabled(image.gpu_variables or {}):
        capability = wants.compute_capability
        return Requirements(True, wants.cuda, wants.driver, _number(capability))
    needs = image.needs
    return Requirements(True, needs.cuda, needs.driver, _number(needs.compute_capability))


def _number(capability: str | None) -> float | None:
    major, minor = (*(dotted_versions.parse(capability) or ()), 0, 0)[:2]
    return float(f"{major}.{minor}") if major else None
