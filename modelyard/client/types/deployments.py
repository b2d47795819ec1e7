"""Types of what is asked and answered: deployments.

Made of the OpenAPI document by `make docs`.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from modelyard.client.types.common import (
    Asset,
    ContainerSpec,
    Desired,
    HealthCheck,
    Ipc,
    OnNodeLoss,
    PortSpec,
    Resources,
    RestartPolicy,
    Ulimit,
    VolumeMount,
)


class AutoscalePolicy(TypedDict):
    """Without targets and schedules the number stays as it was set."""

    targets: NotRequired[list[ScalingTarget]]
    schedules: NotRequired[list[ScalingSchedule]]
    scale_to_zero: NotRequired[bool]
    cooldown_s: NotRequired[int]
    initial_cooldown_s: NotRequired[int]
    scale_up: NotRequired[ScalingBehavior]
    scale_down: NotRequired[ScalingBehavior]


class Deployment(TypedDict):
    """DEPLOYING ⇄ DEPLOYED ⇄ DEGRADED, FAILED, SCALED_DOWN, DELETING → DELETED."""

    uuid: str
    org: str
    revision: int
    created_at: str
    updated_at: str
    reason: str | None
    status: DeploymentStatus
    status_since: str | None
    desired: Desired
    name: str
    template: Template
    history: list[Template]
    good: str | None
    blame: str | None
    rollout_since: str
    rollout_timeout_s: int
    drain_s: float
    idle_s: float
    idle_at: str | None
    max_calls: int
    in_place: bool
    min_replicas: int
    max_replicas: int
    replicas: int
    slots: list[Slot]
    next_number: int
    ready: int
    failures: int
    replace_at: str | None
    created_by: str | None
    owner: Owner | None
    fault: Fault | None
    annotations: dict[str, str]
    autoscale: AutoscalePolicy | None
    scaling: ScalingLook | None
    scalings: list[ScalingChange]
    endpoint: str


class DeploymentEdit(TypedDict):
    """What changes; None leaves it."""

    name: NotRequired[str | None]
    template: NotRequired[ReplicaSpec | None]
    min_replicas: NotRequired[int | None]
    max_replicas: NotRequired[int | None]
    max_calls: NotRequired[int | None]
    in_place: NotRequired[bool | None]
    rollout_timeout_s: NotRequired[int | None]
    drain_s: NotRequired[float | None]
    annotations: NotRequired[dict[str, str] | None]
    idle_s: NotRequired[float | None]
    autoscale: NotRequired[AutoscalePolicy | None]


class DeploymentSpec(TypedDict):
    """What a caller asks for."""

    name: str
    template: ReplicaSpec
    min_replicas: NotRequired[int]
    max_replicas: NotRequired[int]
    max_calls: NotRequired[int]
    in_place: NotRequired[bool]
    rollout_timeout_s: NotRequired[int]
    drain_s: NotRequired[float]
    annotations: NotRequired[dict[str, str]]
    idle_s: NotRequired[float]
    autoscale: NotRequired[AutoscalePolicy | None]


DeploymentStatus = Literal[
    "DEPLOYING", "DEPLOYED", "DEGRADED", "FAILED", "SCALED_DOWN", "DELETING", "DELETED"
]


class Fault(TypedDict):
    """Why something failed, as callers are told."""

    code: str
    message: str
    technical: str


Metric = Literal[
    "concurrency", "queue_length", "throughput", "latency", "cpu", "memory", "gpu", "gpu_memory"
]


class Owner(TypedDict):
    """The version of a model whose calls a deployment answers. It ends with that."""

    model: str
    version: str


class ReplicaSpec(TypedDict):
    """What each replica is. `name`, `engine_name` and `restart` are the deployment's to
    choose."""

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


class Rollback(TypedDict):
    """Which template is wanted again."""

    generation: NotRequired[int | None]


class Scale(TypedDict):
    """How many replicas are wanted now."""

    replicas: int


class ScalingBehavior(TypedDict):
    """How fast the number moves in one direction."""

    stabilization_s: NotRequired[int]
    select: NotRequired[Literal["max", "min", "disabled"]]
    steps: NotRequired[list[ScalingStep]]


class ScalingChange(TypedDict):
    """One change of the number: what `ScalingStep` counts."""

    at: str
    before: int
    after: int


class ScalingFigure(TypedDict):
    """What one target saw when it was looked at last."""

    metric: Metric
    percentile: int | None
    target: float
    value: float | None
    replicas: int | None


class ScalingLook(TypedDict):
    """What the last look at the figures came to."""

    at: str
    replicas: int
    why: str
    figures: list[ScalingFigure]


class ScalingSchedule(TypedDict):
    """At least `replicas` from each `start` to the next `end`."""

    timezone: str
    start: str
    end: str
    replicas: NotRequired[int]


class ScalingStep(TypedDict):
    """How much may change within each `period_s`."""

    kind: Literal["replicas", "percent"]
    value: int
    period_s: int


class ScalingTarget(TypedDict):
    """As many replicas are wanted as bring `metric` to `value`. Of several targets the most."""

    metric: Metric
    value: float
    percentile: NotRequired[Literal[50, 75, 90, 95] | None]


class Slot(TypedDict):
    """A replica that there should be. Its container follows from the number."""

    number: int
    template: str


class Template(TypedDict):
    """What replicas are made of: two of the same `hash` are alike."""

    generation: int
    hash: str
    spec: ContainerSpec
    made_at: str
