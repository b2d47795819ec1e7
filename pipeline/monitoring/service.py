"""What the whole system is doing, in figures: what waits, what failed, and what nodes have.

Every process that is asked tells the same, since store and broker are asked; whoever adds such
figures up takes them once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from pipeline import topology
from pipeline.adapters.bus.backlog import Backlog
from pipeline.adapters.bus.client import Bus
from pipeline.adapters.store import bulk, totals
from pipeline.adapters.store.readings import Reading, Readings, Source
from pipeline.adapters.store.store import EVERY_ORG
from pipeline.records.kernel import Records
from schemas.base import StatefulRecord
from schemas.container import Container
from schemas.deployment import Deployment
from schemas.image import Image
from schemas.node import Node
from schemas.states import ContainerStatus, DeploymentStatus, ImageStatus, NodeStatus

FRESH_S: Final = 5.0
"""Who asks again within this time gets the same figures."""
MEASURED_WITHIN: Final = timedelta(minutes=3)
"""Older figures of containers count as none."""
COUNTED: Final[Mapping[type[StatefulRecord], Sequence[str]]] = {
    kind: [each.value for each in states if each.value != "DELETED"]
    for kind, states in (
        (Container, ContainerStatus),
        (Deployment, DeploymentStatus),
        (Image, ImageStatus),
    )
}
FIELDS: Final = (
    *("name", "status", "cordoned", "held", "leases", "leased_memory_bytes", "leased_cpus"),
    *("inventory.gpus", "inventory.memory_bytes", "inventory.cpus"),
)


@dataclass(frozen=True, slots=True)
class Queue:
    """Of one stage; those of single nodes and webhooks count together."""

    stage: str
    waiting: int
    in_progress: int
    oldest_s: float


@dataclass(frozen=True, slots=True)
class NodeFigures:
    """What one node has, and what of it containers hold, as its record says."""

    name: str
    status: str
    cordoned: bool
    gpus: int
    gpus_allocated: int
    gpus_unhealthy: int
    gpus_busy: float
    """GPUs' worth of time that containers keep them busy: two at half are 1."""
    memory_bytes: int
    memory_allocated_bytes: int
    cpus: float
    cpus_allocated: float


@dataclass(frozen=True, slots=True)
class Figures:
    queues: Sequence[Queue] = ()
    dead_letters: int = 0
    nodes: Sequence[NodeFigures] = ()
    records: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """By resource and status."""


class Monitoring:
    """Safe for concurrent use within one event loop: those who ask together share an answer."""

    def __init__(self, records: Records, bus: Bus) -> None:
        self._store = records.store
        self._readings = Readings(records.store)
        self._bus = bus
        self._asking = asyncio.Lock()
        self._known: tuple[float, Figures] | None = None

    async def figures(self) -> Figures:
        """At most `FRESH_S` old. Raises BusUnavailable, StoreUnavailable."""
        loop = asyncio.get_running_loop()
        async with self._asking:
            if self._known is None or loop.time() - self._known[0] > FRESH_S:
                self._known = (loop.time(), await self._measured())
            return self._known[1]

    async def _measured(self) -> Figures:
        living = [each.value for each in NodeStatus if each is not NodeStatus.DELETED]
        where = {"status": {"$in": living}}
        nodes = await bulk.read_fields(self._store, Node, FIELDS, org=EVERY_ORG, where=where)
        used = await self._readings.recent(Source.CONTAINERS, MEASURED_WITHIN)
        busy = _busy_by_container(used)
        return Figures(
            queues=await self._queues(),
            dead_letters=await self._bus.held(topology.DEAD, topology.dead(">")),
            nodes=[_of_node(each, busy) for each in nodes],
            records={
                kind.resource: await totals.by_status(self._store, kind, states)
                for kind, states in COUNTED.items()
            },
        )

    async def _queues(self) -> Sequence[Queue]:
        found: list[Backlog] = []
        for stream in (topology.COMMANDS, topology.NODES, topology.LOGS):
            found += await self._bus.backlogs(stream)
        # Organisations need not read their events; what they leave waits for nobody of ours.
        found += await self._bus.backlogs(topology.EVENTS, skipped=topology.ORG_READER)
        waiting = await self._bus.asked()
        return queues_of([*found, Backlog("intake", waiting, 0, 0.0)])


def queues_of(backlogs: Iterable[Backlog]) -> list[Queue]:
    """By stage. What nodes and webhooks have each of their own would be a series for each."""
    joined: dict[str, list[Backlog]] = {}
    for each in backlogs:
        name = next((n for n in ("node", "webhook") if _is_one_of(each.durable, n)), each.durable)
        joined.setdefault(name, []).append(each)
    return [
        Queue(
            stage,
            sum(each.waiting for each in together),
            sum(each.in_progress for each in together),
            max(each.oldest_s for each in together),
        )
        for stage, together in sorted(joined.items())
    ]


def _is_one_of(durable: str, name: str) -> bool:
    """`node-<uuid>` is, `node-drain` is a stage of its own."""
    return durable.startswith(f"{name}-") and len(durable) > len(name) + 36


def _busy_by_container(used: Iterable[Reading]) -> dict[str, float]:
    """Share of the time in which its GPUs were busy."""
    return {
        uuid: (figures.get("gpu_percent") or 0) / 100
        for reading in used
        for uuid, figures in reading.figures.items()
    }


def _of_node(node: Mapping[str, Any], busy: Mapping[str, float]) -> NodeFigures:
    inventory, leases = node["inventory"], node.get("leases", {})
    gpus = inventory.get("gpus", [])
    return NodeFigures(
        name=node["name"],
        status=node["status"],
        cordoned=node.get("cordoned", False),
        gpus=len(gpus),
        gpus_allocated=len(node.get("held", {})),
        gpus_unhealthy=sum(not each.get("healthy", True) for each in gpus),
        gpus_busy=sum(
            busy.get(container, 0.0) * len(lease["gpus"]) for container, lease in leases.items()
        ),
        memory_bytes=inventory["memory_bytes"],
        memory_allocated_bytes=node.get("leased_memory_bytes", 0),
        cpus=inventory["cpus"],
        cpus_allocated=node.get("leased_cpus", 0.0),
    )
