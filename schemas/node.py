"""Node: a machine with a Docker Engine and an agent beside it."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

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


class Node(StatefulRecord):
    """A node belongs to the whole installation: `org` is the installation's own organisation."""

    collection: ClassVar[str] = "nodes"
    resource: ClassVar[str] = "node"
    transitions: ClassVar[Transitions] = NODE_TRANSITIONS

    status: NodeStatus = NodeStatus.READY
    name: str
    address: str
    """Where its published ports can be reached."""
    labels: Labels = Field(default_factory=dict)
    inventory: Inventory
    images: list[str] = Field(default_factory=list)
    """Digests of images present on the engine, for scoring."""
    last_heartbeat: datetime
    agent_started_at: datetime
    held: dict[str, str] = Field(default_factory=dict)
    """GPU uuid → container uuid."""
    leases: dict[str, Lease] = Field(default_factory=dict)
    """Container uuid → lease."""
    leased_memory_bytes: int = 0
    leased_cpus: float = 0
