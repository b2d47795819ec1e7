"""Container: one run of an image on a node."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Literal

from pydantic import Field

from schemas.base import Labels, Name, Shape, StatefulRecord, Transitions
from schemas.image import Progress
from schemas.states import CONTAINER_TRANSITIONS, ContainerStatus


class PortSpec(Shape):
    internal: int = Field(ge=1, le=65535)
    host: int = Field(default=0, ge=0, le=65535)
    """0 lets the agent pick a free port and pin it."""
    protocol: Literal["tcp", "udp"] = "tcp"


class PortBinding(Shape):
    """A port as it really is on the node."""

    internal: int
    host: int
    protocol: Literal["tcp", "udp"] = "tcp"
    address: str


class RestartPolicy(StrEnum):
    NO = "no"
    ON_FAILURE = "on-failure"
    ALWAYS = "always"


class OnNodeLoss(StrEnum):
    REPLACE = "replace"
    """Place it on another node as soon as its node is lost."""
    WAIT = "wait"
    """Stay LOST until the node comes back or somebody decides."""


class HealthCheck(Shape):
    """An HTTP probe by the node agent. Without one, the image's own HEALTHCHECK counts."""

    port: int = Field(ge=1, le=65535)
    path: str = Field(default="/", pattern=r"^/")
    interval_s: float = Field(default=10, gt=0, le=3600)
    timeout_s: float = Field(default=5, gt=0, le=600)
    retries: int = Field(default=3, ge=1, le=100)
    start_period_s: float = Field(default=30, ge=0, le=86400)


class Resources(Shape):
    cpus: float = Field(default=0, ge=0)
    """Cores; 0 is unlimited."""
    memory_bytes: int = Field(default=0, ge=0)
    """Engine limit and placement reservation; 0 is unlimited."""


class ContainerSpec(Shape):
    """What a caller asks for. The same spec always has the same hash."""

    image: str = Field(min_length=1, max_length=512)
    """uuid, name or reference of a READY image of the organisation."""
    name: Name | None = None
    command: list[str] = Field(default_factory=list)
    env: dict[str, str] = Field(default_factory=dict)
    ports: list[PortSpec] = Field(default_factory=list)
    """Empty: every port that the image exposes, at most 128, on dynamic host ports."""
    gpus: int | None = Field(default=None, ge=0, le=1024)
    """None: what the image needs."""
    gpu_model: str | None = None
    resources: Resources = Field(default_factory=Resources)
    labels: Labels = Field(default_factory=dict)
    node: str | None = None
    """uuid or name of the only node that may run it."""
    node_labels: Labels = Field(default_factory=dict)
    restart: RestartPolicy = RestartPolicy.ON_FAILURE
    on_node_loss: OnNodeLoss = OnNodeLoss.REPLACE
    health: HealthCheck | None = None


class Desired(StrEnum):
    RUNNING = "RUNNING"
    STOPPED = "STOPPED"
    DELETED = "DELETED"


class Container(StatefulRecord):
    """REQUESTED → PLACED → PULLING → CREATED → RUNNING ⇄ UNHEALTHY → … → DELETED."""

    collection: ClassVar[str] = "containers"
    resource: ClassVar[str] = "container"
    transitions: ClassVar[Transitions] = CONTAINER_TRANSITIONS

    status: ContainerStatus = ContainerStatus.REQUESTED
    desired: Desired = Desired.RUNNING
    """What the owner wants; `status` is what is. A requested stop is never undone by a restart."""
    name: str
    spec: ContainerSpec
    spec_hash: str
    image: str
    """uuid of the Image."""
    pull: str
    """Pinned reference that the node pulls."""
    node: str | None = None
    fence: int = 0
    """Fencing number of the newest launch; an agent refuses an older one."""
    engine_id: str | None = None
    gpus: list[str] = Field(default_factory=list)
    """Device ids (uuids) leased on the node."""
    ports: list[PortBinding] = Field(default_factory=list)
    progress: Progress = Field(default_factory=Progress)
    """Of the pull."""
    restarts: int = 0
    backoff_s: float = 0
    restart_at: datetime | None = None
    started_at: datetime | None = None
    healthy_since: datetime | None = None
    exit_code: int | None = None
    refusals: dict[str, list[str]] = Field(default_factory=dict)
    """Why no node could take it: node name → reasons. Kept from the last placement."""
    request_hash: str | None = None
    created_by: str | None = None
