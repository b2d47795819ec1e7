"""Node: a machine with a Docker Engine and an agent beside it."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import ClassVar, Final

from pydantic import Field

from schemas.base import Labels, Shape, StatefulRecord, Transitions
from schemas.image import Platform
from schemas.states import NODE_TRANSITIONS, NodeStatus


class Gpu(Shape):
    """One schedulable device: a whole GPU, or a MIG instance of one (never both)."""

    uuid: str
    index: int
    model: str
    """As NVML names it, for instance `NVIDIA H100 80GB HBM3`."""
    memory_bytes: int
    compute_capability: str
    """`major.minor`."""
    brand: str | None = None
    """As NVIDIA's requirements write what NVML calls it, for instance `tesla`; None: not asked."""
    parent: str | None = None
    """uuid of the physical GPU, for a MIG instance."""
    healthy: bool = True
    fault: str | None = None
    """Why it is cordoned, for instance `XID 79`."""
    lost: bool = False
    """It fell off the bus: nothing that runs can use it any more."""
    simulated: bool = False


class Inventory(Shape):
    """What an agent reports about its machine."""

    engine_version: str | None = None
    api_version: str | None = None
    engine_id: str | None = None
    """Tells one engine from another, and so a restarted agent from a second machine."""
    platform: Platform
    cpus: int
    memory_bytes: int
    gpus: list[Gpu] = Field(default_factory=list)
    driver: str | None = None
    """NVIDIA driver version, dotted integers."""
    cuda: str | None = None
    """Newest CUDA version that the driver supports, `major.minor`."""
    simulated: bool = False
    """True when the GPUs are simulated."""


class Lease(Shape):
    """What one container holds of a node. Freed once: release compares the fence."""

    container: str
    fence: int
    gpus: list[str] = Field(default_factory=list)
    memory_bytes: int = 0
    cpus: float = 0
    host_ports: list[str] = Field(default_factory=list)
    """Those that were asked for by number: `8080/tcp`."""
    org: str | None = None
    """Of the container."""
    attempt: str | None = None
    """Which attempt to place it took this: two of them may use the same fence."""


class Drain(Shape):
    """That a node is to become empty, and how far it is."""

    since: datetime
    by: str | None = None
    left: int | None = None
    """Containers that are there still; None until somebody has looked."""
    said: str = "its containers are looked at"
    """What is left, and what it waits for."""
    drained_at: datetime | None = None
    """Since when nothing is left."""


GROUP_LABEL: Final = "group"
"""Nodes with one value of it are meant together (`ContainerSpec.node_groups`)."""


class Node(StatefulRecord, collection="nodes", resource="node"):
    """A node belongs to the whole installation: `org` is the installation's own organisation."""

    transitions: ClassVar[Transitions] = NODE_TRANSITIONS
    facts: ClassVar = ("name", "status", "reason")

    status: NodeStatus = NodeStatus.READY
    name: str
    address: str
    """Where its published ports can be reached."""
    labels: Labels = Field(default_factory=dict)
    cordoned: bool = False
    """Nothing new is placed on it; what is there goes on."""
    drain: Drain | None = None
    """It is cordoned, too, and replicas of deployments move to other nodes."""
    inventory: Inventory
    had: Inventory | None = None
    """The one with most GPUs, while the node shows fewer: what it lacks is expected back."""
    images: list[str] = Field(default_factory=list)
    """Digests of images present on the engine, for scoring."""
    ports_in_use: list[str] = Field(default_factory=list)
    """Host ports that nobody has leased and something listens on all the same: `8080/tcp`."""
    last_heartbeat: datetime
    agent_started_at: datetime
    held: dict[str, str] = Field(default_factory=dict)
    """GPU uuid → container uuid."""
    leases: dict[str, Lease] = Field(default_factory=dict)
    """Container uuid → lease."""
    leased_memory_bytes: int = 0
    leased_cpus: float = 0

    def is_in(self, groups: Collection[str]) -> bool:
        """It is one of these, or in one; no groups are all nodes."""
        return not groups or self.uuid in groups or self.labels.get(GROUP_LABEL) in groups

    def complete(self) -> Node:
        """As it was when no device was away; the same one when none is."""
        return self.model_copy(update={"inventory": self.had, "had": None}) if self.had else self

    def remembered(self, now: Inventory) -> Inventory | None:
        """What to keep as `had` beside the inventory `now`: the one with most devices, while `now`
        has fewer. A driver that loads, a reset or a reboot take devices away for a while."""
        most = self.had or self.inventory
        return most if len(most.gpus) > len(now.gpus) else None
