"""Types of what is asked and answered: common.

Made of the OpenAPI document by `make docs`.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict


class Asset(TypedDict):
    """A file that is fetched once per node, and mounted for reading."""

    env_key: str
    url: str
    sha256: NotRequired[str | None]


class ContainerSpec(TypedDict):
    """What a caller asks for. The same spec always has the same hash."""

    image: str
    name: NotRequired[str | None]
    aliases: NotRequired[list[str]]
    engine_name: NotRequired[str | None]
    command: NotRequired[list[str]]
    env: NotRequired[dict[str, str]]
    ports: NotRequired[list[PortSpec]]
    publish_exposed: NotRequired[bool]
    gpus: NotRequired[int | None]
    gpu_model: NotRequired[str | None]
    resources: NotRequired[Resources]
    labels: NotRequired[dict[str, str]]
    node: NotRequired[str | None]
    node_labels: NotRequired[dict[str, str]]
    node_groups: NotRequired[list[str]]
    restart: NotRequired[RestartPolicy]
    on_node_loss: NotRequired[OnNodeLoss]
    health: NotRequired[HealthCheck | None]
    entrypoint: NotRequired[list[str] | None]
    working_dir: NotRequired[str | None]
    user: NotRequired[str | None]
    shm_size_bytes: NotRequired[int | None]
    ulimits: NotRequired[dict[str, Ulimit]]
    ipc: NotRequired[Ipc]
    ipc_with: NotRequired[str | None]
    volumes: NotRequired[list[VolumeMount]]
    assets: NotRequired[list[Asset]]
    tmpfs: NotRequired[dict[str, int]]
    read_only: NotRequired[bool]
    extra_hosts: NotRequired[dict[str, str]]
    stop_signal: NotRequired[str | None]
    stop_grace_s: NotRequired[int | None]
    priority: NotRequired[int]


Desired = Literal["RUNNING", "STOPPED", "DELETED"]


class Finding(TypedDict):
    """One thing that a validator saw. A validator returns all of them, not the first."""

    code: str
    severity: Severity
    message: str


class HealthCheck(TypedDict):
    """A probe by the node agent. Without one, the image's own HEALTHCHECK counts."""

    port: int
    protocol: NotRequired[Literal["http", "grpc", "model-rest", "model-grpc"]]
    path: NotRequired[str]
    interval_s: NotRequired[float]
    timeout_s: NotRequired[float]
    retries: NotRequired[int]
    start_period_s: NotRequired[float]
    until_ready: NotRequired[bool]


Ipc = Literal["private", "shareable"]


class NodeEligibility(TypedDict):
    """`NodeEligibility` of the document."""

    id: str
    name: str
    eligible: bool
    reasons: list[ReasonView]


OnNodeLoss = Literal["replace", "wait"]


class Platform(TypedDict):
    """OCI platform, for instance linux/amd64."""

    os: str
    architecture: str
    variant: str | None


class PortSpec(TypedDict):
    """`PortSpec` of the document."""

    internal: int
    host: NotRequired[int]
    protocol: NotRequired[Literal["tcp", "udp"]]


class Progress(TypedDict):
    """How far a long step is. Integers that never fall within one attempt."""

    done_bytes: int
    total_bytes: int | None
    percentage: int


class ReasonView(TypedDict):
    """Why a node cannot run it."""

    code: str
    detail: str
    required: Any
    actual: Any


class RequirementsView(TypedDict):
    """`RequirementsView` of the document."""

    gpu: bool
    cuda_version: str | None
    min_driver_version: str | None
    min_compute_capability: float | None


class Resources(TypedDict):
    """What a container may use of its node."""

    cpus: NotRequired[float]
    cpus_limit: NotRequired[float]
    memory_bytes: NotRequired[int]


RestartPolicy = Literal["no", "on-failure", "always"]


Severity = Literal["error", "warning", "info"]


class Ulimit(TypedDict):
    """-1 is no limit."""

    soft: int
    hard: int


class VolumeMount(TypedDict):
    """A folder that outlives its container: the next one of the same name finds it again."""

    path: str
    read_only: NotRequired[bool]
