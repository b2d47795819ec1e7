"""The calls that the core makes on the outside, as Protocols, and the values they exchange.

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

PullProgress = Callable[[int, int | None], Awaitable[None]]
"""Called with bytes done and bytes in total (None while unknown)."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Plain registry credentials: live in memory only; `repr` hides them."""

    server: str
    username: str
    password: str = field(repr=False)


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

    @property
    def running(self) -> bool:
        return self.state in ("running", "restarting", "paused")


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

    async def list(self, labels: Mapping[str, str]) -> Sequence[EngineContainer]:
        """All containers, running or not, that carry every given label."""
        ...

    async def stop(self, id: str, *, grace_s: int) -> None:
        """No-op when stopped or gone."""
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

    def events(
        self, *, since: datetime | None, labels: Mapping[str, str]
    ) -> AsyncGenerator[EngineEvent, None]:
        """Container events until cancelled; raises EngineUnavailable when the stream is cut.

        `since` (inclusive) replays what the engine remembers: its newest few hundred events, and
        nothing from before its own start.
        """
        ...

    async def copy_in(self, id: str, path: str, tar: AsyncIterator[bytes]) -> None:
        """Unpacks a TAR into the folder `path`. Raises ContainerMissing and PathMissing."""
        ...

    def copy_out(self, id: str, path: str) -> AsyncIterator[bytes]:
        """`path` as a TAR. Raises ContainerMissing and PathMissing."""
        ...


class GpuInventory(Protocol):
    def read(self) -> GpuReading: ...


@dataclass(frozen=True, slots=True)
class GpuReading:
    gpus: tuple[Gpu, ...]
    driver: str | None
    cuda: str | None
    simulated: bool


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


@dataclass(frozen=True, slots=True)
class Layer:
    digest: str
    size_bytes: int
    media_type: str
