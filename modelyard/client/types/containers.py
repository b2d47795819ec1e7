"""Types of what is asked and answered: containers.

Made of the OpenAPI document by `make docs`.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from modelyard.client.types.common import ContainerSpec, Desired, Progress


class Container(TypedDict):
    """REQUESTED → PLACED → PULLING → CREATED → RUNNING ⇄ UNHEALTHY → … → DELETED."""

    uuid: str
    org: str
    revision: int
    created_at: str
    updated_at: str
    reason: str | None
    status: ContainerStatus
    status_since: str | None
    desired: Desired
    name: str
    spec: ContainerSpec
    spec_hash: str
    replaces: str | None
    failure: str | None
    image: str
    pull: str
    image_name: str | None
    node: str | None
    node_name: str | None
    fence: int
    was_placed: bool
    engine_id: str | None
    gpus: list[str]
    ports: list[PortBinding]
    progress: Progress
    restarts: int
    backoff_s: float
    restart_at: str | None
    started_at: str | None
    has_probe: bool
    healthy_since: str | None
    exit_code: int | None
    refusals: dict[str, list[str]]
    queue_position: int | None
    deployment: str | None
    replica: int | None
    drain_until: str | None
    created_by: str | None


ContainerStatus = Literal[
    "REQUESTED",
    "PLACED",
    "PULLING",
    "CREATED",
    "RUNNING",
    "UNHEALTHY",
    "RESTARTING",
    "STOPPED",
    "FAILED",
    "LOST",
    "DELETED",
]


class ContainerUse(TypedDict):
    """`ContainerUse` of the document."""

    cpus: float | None
    memory_bytes: int | None
    memory_limit_bytes: int | None
    network_received_bytes: int | None
    network_sent_bytes: int | None
    gpu_percent: float | None
    gpu_memory_percent: float | None
    container: str
    name: str
    node: str
    node_name: str | None
    gpus: list[str]
    age_s: float | None


class ExecEnd(TypedDict):
    """The last of what is said about it."""

    exit_code: int
    timed_out: bool


class ExecOutput(TypedDict):
    """Some of what it wrote."""

    stream: Literal["stdout", "stderr"]
    text: str


class ExecSpec(TypedDict):
    """A further program in a container that runs."""

    command: list[str]
    timeout_s: NotRequired[float]
    working_dir: NotRequired[str | None]
    user: NotRequired[str | None]
    env: NotRequired[dict[str, str]]


class LogEntry(TypedDict):
    """One chunk of output."""

    stream: Literal["stdout", "stderr"]
    time: str
    text: str


class PortBinding(TypedDict):
    """A port as it really is on the node."""

    internal: int
    host: int
    protocol: Literal["tcp", "udp"]
    address: str


class Volume(TypedDict):
    """A volume of one engine: READY → DELETING → DELETED."""

    uuid: str
    org: str
    revision: int
    created_at: str
    updated_at: str
    reason: str | None
    status: VolumeStatus
    status_since: str | None
    name: str
    path: str
    container: str
    node: str
    node_name: str


VolumeStatus = Literal["READY", "DELETING", "DELETED"]
