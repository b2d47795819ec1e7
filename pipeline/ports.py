"""What is asked of a registry, of GPUs and of an engine: Protocols, and the values they exchange.

Another launch engine, GPU inventory or registry client is one more file that fulfils one of these.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from schemas.container import PortBinding
from schemas.image import Needs, Platform, ReferenceParts
from schemas.node import Gpu


@dataclass(frozen=True, slots=True)
class Credentials:
    """Plain registry credentials: live in memory only; `repr` hides them."""

    server: str
    username: str
    password: str = field(repr=False)
    token: str = field(default="", repr=False)
    """Sent as it is, without asking anybody for another; with it there is no user."""


@dataclass(frozen=True, slots=True)
class Layer:
    digest: str
    size_bytes: int
    media_type: str


@dataclass(frozen=True, slots=True)
class ResolvedImage:
    """What a registry knows about one image of one platform."""

    parts: ReferenceParts
    """With the digest of the platform's manifest filled in."""
    digest: str
    platform: Platform
    size_bytes: int
    config_digest: str
    layers: tuple[Layer, ...]
    labels: Mapping[str, str]
    env: Mapping[str, str]
    needs: Needs
    has_healthcheck: bool
    command: tuple[str, ...]
    """Entrypoint and Cmd together; empty when the image names none."""
    user: str = ""
    """Of the image configuration; empty means root."""
    missing: tuple[str, ...] = ()
    """Digests of layers that the registry does not have."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    """Of the platform's manifest."""

    @property
    def pinned(self) -> str:
        """`registry/repository@sha256:…`: what nodes pull."""
        return f"{self.parts.registry}/{self.parts.repository}@{self.digest}"


@dataclass(frozen=True, slots=True)
class GpuReading:
    gpus: tuple[Gpu, ...]
    driver: str | None
    cuda: str | None
    simulated: bool


@dataclass(frozen=True, slots=True)
class GpuUse:
    """Percents; None where the device does not tell: a MIG instance is not asked how busy it is."""

    busy: float | None
    """Of the last moments (a second or less), in which something ran on it."""
    memory: float | None


class GpuInventory(Protocol):
    def read(self) -> GpuReading: ...

    def use(self, uuids: Sequence[str]) -> Sequence[GpuUse]:
        """Of these devices, in their order. Raises GpusUnreadable."""
        ...


PullProgress = Callable[[int, int | None], Awaitable[None]]
"""Called with bytes done and bytes in total (None while unknown)."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    version: str
    api_version: str
    platform: Platform
    cpus: int
    memory_bytes: int
    id: str | None = None
    """Of this very engine, the same after a restart; None where it does not tell."""


@dataclass(frozen=True, slots=True)
class LaunchOptions:
    """None and empty leave it to the image or the engine."""

    entrypoint: Sequence[str] = ()
    working_dir: str | None = None
    user: str | None = None
    shm_bytes: int | None = None
    ulimits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Name → soft and hard; -1 is no limit."""
    ipc: str = "private"
    """`private`, `shareable`, or `container:<name of a container on this engine>`."""
    tmpfs: Mapping[str, int] = field(default_factory=dict)
    """Folder → bytes."""
    read_only: bool = False
    extra_hosts: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str | None = None
    stop_grace_s: int | None = None


@dataclass(frozen=True, slots=True)
class Mount:
    """A volume of the engine, by its name, or a file of the machine, in a container."""

    source: str
    path: str
    read_only: bool = False
    is_file: bool = False


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """Everything that decides how a container is created."""

    name: str
    image: str
    command: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: Sequence[PortBinding] = ()
    memory_bytes: int = 0
    cpus: float = 0
    gpu_devices: Sequence[str] = ()
    """Device ids for a DeviceRequest; empty for simulated GPUs."""
    options: LaunchOptions = field(default_factory=LaunchOptions)
    mounts: Sequence[Mount] = ()


@dataclass(frozen=True, slots=True)
class EngineContainer:
    """A container as its engine shows it at one moment."""

    id: str
    name: str
    labels: Mapping[str, str]
    state: Literal["created", "running", "paused", "restarting", "removing", "exited", "dead"]
    health: Literal["none", "starting", "healthy", "unhealthy"]
    exit_code: int | None
    oom_killed: bool
    error: str
    """What the engine says about a failed start, or an empty string."""
    ports: tuple[PortBinding, ...]
    started_at: datetime | None
    finished_at: datetime | None
    image_id: str
    stop_grace_s: int | None = None
    """As it was made; None where it was left open."""

    @property
    def running(self) -> bool:
        return self.state in ("running", "restarting", "paused")


@dataclass(frozen=True, slots=True)
class EngineUse:
    """What a running container uses, as its engine counts it at one moment."""

    at_ns: int
    """By the engine's clock."""
    cpu_ns: int
    """Time of all CPUs together since its start."""
    cpus: int
    """Of the machine."""
    memory_bytes: int
    """Without files that are merely cached."""
    memory_limit_bytes: int
    """Its own, or what the machine has."""
    network_received_bytes: int = 0
    """Since its start, as `network_sent_bytes`."""
    network_sent_bytes: int = 0


@dataclass(frozen=True, slots=True)
class EngineEvent:
    """`action`: create, start, die, oom, stop, kill, destroy, pause, unpause, health_status…"""

    action: str
    id: str
    name: str
    labels: Mapping[str, str]
    exit_code: int | None
    health: str | None
    time: datetime
    time_ns: int


@dataclass(frozen=True, slots=True)
class LogLine:
    """One chunk of output: whole lines, with their newline, where the program wrote whole lines.

    The texts of one stream joined are what was written to it.
    """

    stream: Literal["stdout", "stderr"]
    time: datetime
    time_ns: int
    text: str


@dataclass(frozen=True, slots=True)
class ExecPlan:
    """A further program in a container that runs. None leaves it to the container."""

    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    working_dir: str | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """Some of what a program wrote."""

    stream: Literal["stdout", "stderr"]
    content: bytes


class Engine(Protocol):
    """A container engine. Never blocks the event loop.

    Raises the EngineError family, AlreadyExists where `create` says so, Overloaded when too many
    outputs are followed at once, and Misconfigured when its address or version cannot work.
    """

    async def ping(self) -> None:
        """Raises EngineUnavailable."""
        ...

    async def info(self) -> EngineInfo: ...

    async def pull(
        self,
        reference: str,
        *,
        credentials: Credentials | None,
        platform: str | None,
        stall_s: float,
        progress: PullProgress,
    ) -> str:
        """Returns the image id. A cancelled or failed pull leaves no tag behind.

        Raises PullFailed (reason `stalled` after `stall_s` without a sign of life), PullImpossible,
        PullDenied and DiskFull.
        """
        ...

    async def image_id(self, reference: str) -> str | None:
        """Id of a present image, or None."""
        ...

    async def image_digests(self) -> frozenset[str]:
        """Repository digests (`sha256:…`) of all present images."""
        ...

    async def create(self, plan: LaunchPlan) -> str:
        """Returns the full id.

        When the name is taken, never touches the holder and raises AlreadyExists where it carries
        the plan's own `modelyard.container` label (`facts`: `id`, `labels`, `state`, to adopt it),
        else ForeignContainer. Raises ImageMissing, CreateFailed and DiskFull too.
        """
        ...

    async def start(self, id: str) -> None:
        """Raises PortTaken, StartFailed, ContainerMissing. Starting a running one is a no-op."""
        ...

    async def inspect(self, id_or_name: str) -> EngineContainer | None: ...

    async def use(self, id_or_name: str) -> EngineUse | None:
        """None of one that is gone or does not run."""
        ...

    async def create_volume(self, name: str, labels: Mapping[str, str]) -> None:
        """Idempotent. Raises ForeignContainer when somebody else has one of this name."""
        ...

    async def remove_volume(self, name: str) -> None:
        """With what is in it. No-op when gone. Raises EngineError while a container has it."""
        ...

    async def list(self, labels: Mapping[str, str]) -> Sequence[EngineContainer]:
        """All containers, running or not, that carry every given label."""
        ...

    async def stop(self, id: str, *, grace_s: int) -> None:
        """No-op when stopped or gone."""
        ...

    async def rename(self, id: str, name: str) -> None:
        """Raises ForeignContainer when another one has this name, ContainerMissing."""
        ...

    async def remove(self, id: str) -> None:
        """Kills first when needed. No-op when gone."""
        ...

    def logs(
        self, id: str, *, tail: int | None, since: datetime | None, follow: bool
    ) -> AsyncGenerator[LogLine, None]:
        """Ends with the output, or when a followed container ends.

        `since` is inclusive, in whole microseconds. Raises ContainerMissing and, when the stream
        is cut, EngineUnavailable.
        """
        ...

    def output(self, id: str, *, since: datetime) -> AsyncGenerator[Sequence[LogLine], None]:
        """As `logs` that are followed, as many at a time as have come: for whoever reads all of it
        for as long as it runs."""
        ...

    async def create_exec(self, id: str, plan: ExecPlan) -> str:
        """Returns the id of what is to run; `exec_output` starts it.

        Raises ContainerMissing, and EngineError when the container does not run.
        """
        ...

    def exec_output(self, exec_id: str) -> AsyncGenerator[Output, None]:
        """Starts it, and ends with it. Closing it leaves the program running.

        Raises EngineError when it cannot be started.
        """
        ...

    async def start_exec(self, exec_id: str) -> None:
        """Starts it, and returns; nobody reads what it writes. Raises EngineError."""
        ...

    async def exec_exit_code(self, exec_id: str) -> int | None:
        """None while it runs."""
        ...

    def events(
        self, *, since: datetime | None, labels: Mapping[str, str]
    ) -> AsyncGenerator[EngineEvent, None]:
        """Container events until cancelled; raises EngineUnavailable when the stream is cut.

        `since` (inclusive) replays what the engine remembers: its newest few hundred events, and
        nothing from before its own start.
        """
        ...

    async def recall(self, id: str, *, since: datetime) -> Sequence[EngineEvent]:
        """The ends of one container (`die`) and the signals it was sent (`kill`), oldest first.

        Only what this run of the engine remembers: its newest few hundred events of all containers,
        and nothing from before its own start.
        """
        ...

    async def copy_in(self, id: str, path: str, tar: AsyncIterator[bytes]) -> None:
        """Unpacks a TAR into the folder `path`. Raises ContainerMissing and PathMissing."""
        ...

    def copy_out(self, id: str, path: str) -> AsyncGenerator[bytes, None]:
        """`path` as a TAR. Raises ContainerMissing and PathMissing."""
        ...
