"""Types of what is asked and answered: nodes.

Made of the OpenAPI document by `make docs`.
"""

from __future__ import annotations

from typing import Literal, TypedDict

from modelyard.client.types.common import Platform


class Drain(TypedDict):
    """That a node is to become empty, and how far it is."""

    since: str
    by: str | None
    left: int | None
    said: str
    drained_at: str | None


class Gpu(TypedDict):
    """One schedulable device: a whole GPU, or a MIG instance of one (never both)."""

    uuid: str
    index: int
    model: str
    memory_bytes: int
    compute_capability: str
    brand: str | None
    parent: str | None
    healthy: bool
    fault: str | None
    lost: bool
    simulated: bool


class Inventory(TypedDict):
    """What an agent reports about its machine."""

    engine_version: str | None
    api_version: str | None
    engine_id: str | None
    platform: Platform
    cpus: int
    memory_bytes: int
    gpus: list[Gpu]
    driver: str | None
    cuda: str | None
    simulated: bool


class Node(TypedDict):
    """A node belongs to the whole installation: `org` is the installation's own organisation."""

    uuid: str
    org: str
    revision: int
    created_at: str
    updated_at: str
    reason: str | None
    status: NodeStatus
    status_since: str | None
    name: str
    address: str
    labels: dict[str, str]
    cordoned: bool
    drain: Drain | None
    inventory: Inventory
    had: Inventory | None
    images: list[str]
    ports_in_use: list[str]
    last_heartbeat: str
    agent_started_at: str
    leased_memory_bytes: int
    leased_cpus: float
    held: list[str]


NodeStatus = Literal["READY", "NOT_READY", "LOST", "DELETED"]
