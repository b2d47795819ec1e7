"""Container: one run of an image on a node."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar, Final, Literal

from pydantic import AllowInfNan, Field, StrictBool, StrictFloat, StrictInt, StrictStr
from pydantic.config import JsonDict

from schemas.base import Labels, Mark, Name, Progress, Shape, StatefulRecord, Transitions
from schemas.states import CONTAINER_TRANSITIONS, VOLUME_TRANSITIONS, ContainerStatus, VolumeStatus

# For documentation: refusals are worded where containers are asked for, and what is stored already
# must stay readable.
_TEXT: Final = r"^[^\x00]*$"
_PART: Final = r"/([^\x00:,/.][^\x00:,/]*|\.[^\x00:,/.][^\x00:,/]*|\.\.[^\x00:,/]+)"
"""Of a path; neither `.` nor `..`."""
_FOLDER: Final = f"^({_PART}?)+$"
_OF_THE_ENGINE: Final = "^/(dev|proc|sys)(/|$)"
_NAME_OR_NUMBER: Final = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}"
_ULIMITS: Final = (
    *("core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc"),
    *("rss", "rtprio", "rttime", "sigpending", "stack"),
)
_SIGNALS: Final = (
    "ABRT|ALRM|BUS|CHLD|CLD|CONT|FPE|HUP|ILL|INT|IO|IOT|KILL|PIPE|POLL|PROF|PWR|QUIT|RTMAX|RTMIN"
    "|SEGV|STKFLT|STOP|SYS|TERM|TRAP|TSTP|TTIN|TTOU|URG|USR1|USR2|VTALRM|WINCH|XCPU|XFSZ"
)
Text = Annotated[str, Field(json_schema_extra={"pattern": _TEXT})]
"""What a program can be given."""
Folder = Annotated[str, Field(json_schema_extra={"pattern": _FOLDER})]
User = Annotated[
    str, Field(json_schema_extra={"pattern": f"^{_NAME_OR_NUMBER}(:{_NAME_OR_NUMBER})?$"})
]
_ADDRESS: Final[JsonDict] = {"anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}
_SIZE: Final[JsonDict] = {"minimum": 2**16, "maximum": 2**60}
Program: Final[JsonDict] = {"prefixItems": [{"type": "string", "minLength": 1, "pattern": _TEXT}]}
EnvNames: Final[JsonDict] = {"propertyNames": {"pattern": r"^[^=\x00]+$"}}
PURPOSE_LABEL: Final = "model.purpose"
"""What the container of a model is for, by which it is told from others."""


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
    """A probe by the node agent. Without one, the image's own HEALTHCHECK counts."""

    port: int = Field(ge=1, le=65535)
    protocol: Literal["http", "grpc", "model-rest", "model-grpc"] = "http"
    """`model-rest` and `model-grpc`: the question for its status that every model answers, well
    when the answer is one that passes a load test."""
    path: str = Field(default="/", pattern=r"^/")
    """Of a `GET`, well when that is answered with 2xx or 3xx; or the method of a gRPC call with an
    empty message, `/Service/Method`, well when that is OK. Models are asked where they all are."""
    interval_s: float = Field(default=10, gt=0, le=3600)
    timeout_s: float = Field(default=5, gt=0, le=600)
    retries: int = Field(default=3, ge=1, le=100)
    start_period_s: float = Field(default=30, ge=0, le=86400)
    """Failures within it do not count; the first success ends it."""
    until_ready: bool = False
    """Ask no more after the first success: for programs that answer nobody while they work."""


class Resources(Shape):
    """What a container may use of its node."""

    cpus: float = Field(
        default=0,
        ge=0,
        json_schema_extra={"anyOf": [{"const": 0}, {"minimum": 0.01, "maximum": 65536}]},
    )
    """Cores that are set aside for it, and the most that it may use without `cpus_limit`; 0: none,
    and as many as there are."""
    cpus_limit: float = Field(
        default=0,
        ge=0,
        json_schema_extra={"anyOf": [{"const": 0}, {"minimum": 0.01, "maximum": 65536}]},
    )
    """Cores that it may use at most, no fewer than `cpus`; 0: `cpus`."""
    memory_bytes: int = Field(
        default=0,
        ge=0,
        json_schema_extra={"anyOf": [{"const": 0}, {"minimum": 6 * 2**20, "maximum": 2**60}]},
    )
    """Engine limit and placement reservation; 0 is unlimited."""

    @property
    def most_cpus(self) -> float:
        """0: as many as there are."""
        return self.cpus_limit or self.cpus


EnvValue = StrictStr | StrictBool | StrictInt | Annotated[StrictFloat, AllowInfNan(False)]
"""What is no text reaches the program as JSON writes it."""


class LaunchDefaults(Shape):
    """What containers and deployments of an image have where their owner says nothing."""

    gpus: int | None = Field(default=None, ge=0, le=1024)
    """None: what the image needs."""
    env: Annotated[dict[str, EnvValue], Mark.CONCEALED] = Field(
        default_factory=dict, json_schema_extra=EnvNames
    )
    """Variables of the container's own of the same name count instead."""
    ports: list[PortSpec] = Field(default_factory=list, json_schema_extra={"maxItems": 128})
    """Empty: those that the image exposes."""
    health: HealthCheck | None = None
    """Where its port is published."""


class Ipc(StrEnum):
    PRIVATE = "private"
    SHAREABLE = "shareable"
    """Other containers of the organisation may join its shared memory, with `ipc_with`."""


class VolumeMount(Shape):
    """A folder that outlives its container: the next one of the same name finds it again."""

    path: str = Field(
        json_schema_extra={
            "pattern": f"^({_PART})+$",
            "maxLength": 1024,
            "not": {"pattern": "^/(dev|proc|sys|modelyard)(/|$)"},
        }
    )
    """Where in the container; whole and without `.`, `..` or a `/` at its end."""
    read_only: bool = False


class Asset(Shape):
    """A file that is fetched once per node, and mounted for reading."""

    env_key: str = Field(json_schema_extra={"pattern": "^[A-Za-z_][A-Za-z0-9_]{0,254}$"})
    """The variable that tells its path."""
    url: Annotated[str, Mark.CONCEALED] = Field(
        json_schema_extra={
            "pattern": r"^[Hh][Tt][Tt][Pp][Ss]?://[^\s/?#@]+([/?#]\S*)?$",
            "maxLength": 4096,
        }
    )
    """`http` or `https`."""
    sha256: str | None = Field(default=None, json_schema_extra={"pattern": "^[0-9a-f]{64}$"})
    """Of its content, in hex: any other content is refused."""


class Ulimit(Shape):
    """-1 is no limit."""

    soft: int = Field(json_schema_extra={"minimum": -1, "maximum": 2**63 - 1})
    hard: int = Field(json_schema_extra={"minimum": -1, "maximum": 2**63 - 1})


class ContainerSpec(Shape):
    """What a caller asks for. The same spec always has the same hash."""

    image: str = Field(min_length=1, max_length=512)
    """uuid, name or reference of a READY image of the organisation."""
    name: Name | None = None
    aliases: list[Name] = Field(default_factory=list, json_schema_extra={"maxItems": 32})
    """By which it is found, too. Several containers may share one."""
    engine_name: Name | None = None
    """What its engine calls it, if nobody there has that name. None: a name of the platform's."""
    command: list[Text] = Field(default_factory=list)
    env: Annotated[dict[str, Text], Mark.CONCEALED] = Field(
        default_factory=dict, json_schema_extra=EnvNames
    )
    ports: list[PortSpec] = Field(default_factory=list, json_schema_extra={"maxItems": 128})
    """Empty: every port that the image exposes, at most 128, on dynamic host ports."""
    publish_exposed: bool = True
    """False: nothing but `ports` is published."""
    gpus: int | None = Field(default=None, ge=0, le=1024)
    """None: what the image needs."""
    gpu_model: str | None = Field(default=None, json_schema_extra={"pattern": "[A-Za-z0-9]"})
    resources: Resources = Field(default_factory=Resources)
    labels: Labels = Field(default_factory=dict)
    node: str | None = None
    """uuid or name of the only node that may run it."""
    node_labels: Labels = Field(default_factory=dict)
    node_groups: list[str] = Field(default_factory=list)
    """uuids of nodes, or values of their label `group`: one of these nodes runs it. Empty: any."""
    restart: RestartPolicy = RestartPolicy.ON_FAILURE
    on_node_loss: OnNodeLoss = OnNodeLoss.REPLACE
    health: HealthCheck | None = None
    entrypoint: list[Text] | None = Field(
        default=None, json_schema_extra={"minItems": 1, **Program}
    )
    """Instead of the image's own, whose command is dropped with it."""
    working_dir: Folder | None = None
    user: User | None = None
    """Name or number, or `user:group`."""
    shm_size_bytes: int | None = Field(default=None, json_schema_extra=_SIZE)
    """Of /dev/shm. None: 8 GiB with GPUs, but not more than half of its memory, else 64 MiB."""
    ulimits: dict[str, Ulimit] = Field(
        default_factory=dict, json_schema_extra={"propertyNames": {"enum": list(_ULIMITS)}}
    )
    """By name: `memlock`, `nofile`, `stack`, …"""
    ipc: Ipc = Ipc.PRIVATE
    ipc_with: str | None = None
    """uuid or name of a `shareable` container of the organisation, on whose node it runs then."""
    volumes: list[VolumeMount] = Field(default_factory=list, json_schema_extra={"maxItems": 32})
    """Kept per organisation, name of the container and path, on the node where it ran first and to
    which it returns; they end on demand alone. Each replica of a deployment has its own, which end
    with it."""
    assets: list[Asset] = Field(default_factory=list, json_schema_extra={"maxItems": 32})
    tmpfs: dict[str, Annotated[int, Field(json_schema_extra=_SIZE)]] = Field(
        default_factory=dict,
        json_schema_extra={
            "propertyNames": {
                "pattern": _FOLDER,
                "not": {"anyOf": [{"pattern": "^/$"}, {"pattern": _OF_THE_ENGINE}]},
            },
            "maxProperties": 32,
        },
    )
    """Folder → bytes at most."""
    read_only: bool = False
    """Of its root; a tmpfs can still be written."""
    extra_hosts: dict[str, Annotated[str, Field(json_schema_extra=_ADDRESS)]] = Field(
        default_factory=dict,
        json_schema_extra={
            "propertyNames": {"pattern": "^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$"}
        },
    )
    """Host name → IP address."""
    stop_signal: str | None = Field(
        default=None, json_schema_extra={"pattern": f"^SIG({_SIGNALS})$"}
    )
    """None: the image's own, else SIGTERM."""
    stop_grace_s: int | None = Field(
        default=None, json_schema_extra={"minimum": 0, "maximum": 3600}
    )
    """Between that signal and SIGKILL. None: what its node is set to."""
    priority: int = Field(default=0, ge=-1000, le=1000)
    """Of those that wait for a node the higher is placed first. What runs is never ended for it."""


class Desired(StrEnum):
    RUNNING = "RUNNING"
    STOPPED = "STOPPED"
    DELETED = "DELETED"


class Container(StatefulRecord, collection="containers", resource="container"):
    """REQUESTED → PLACED → PULLING → CREATED → RUNNING ⇄ UNHEALTHY → … → DELETED."""

    transitions: ClassVar[Transitions] = CONTAINER_TRANSITIONS
    facts: ClassVar = ("name", "image", "status", "reason", "node", "deployment")

    status: ContainerStatus = ContainerStatus.REQUESTED
    desired: Desired = Desired.RUNNING
    """What the owner wants; `status` is what is. A requested stop is never undone by a restart."""
    name: str
    spec: ContainerSpec
    spec_hash: str
    """Tells what was asked for from anything else; who asks may bring his own."""
    replaces: str | None = None
    """uuid of the container whose name and node it takes once it runs."""
    failure: str | None = None
    """Code of the error that ended its last launch (`pipeline.errors`)."""
    image: str
    """uuid of the Image."""
    pull: str
    """Pinned reference that the node pulls."""
    image_name: str | None = None
    """What the image was called then."""
    node: str | None = None
    node_name: str | None = None
    fence: int = 0
    """Fencing number of the newest launch; an agent refuses an older one."""
    was_placed: bool = False
    """A node has taken it before: that none can at the moment does not end it."""
    engine_id: str | None = None
    gpus: list[str] = Field(default_factory=list)
    """Device ids (uuids) leased on the node."""
    ports: list[PortBinding] = Field(default_factory=list)
    pull_key: str | None = None
    """SHA-256, in hex, of what its engine proves itself with while it pulls from our registry."""
    progress: Progress = Field(default_factory=Progress)
    """Of the pull."""
    restarts: int = 0
    backoff_s: float = 0
    restart_at: datetime | None = None
    started_at: datetime | None = None
    has_probe: bool = False
    """It asked for one, or its image has a HEALTHCHECK."""
    healthy_since: datetime | None = None
    """Since it started, or since its probe succeeds; None until then, and while it fails."""
    exit_code: int | None = None
    refusals: dict[str, list[str]] = Field(default_factory=dict)
    """Why no node could take it: node name → reasons. Kept from the last placement."""
    queue_position: int | None = None
    """While it waits for a node: 1 is the one that has waited longest. None otherwise."""
    deployment: str | None = None
    """uuid of the deployment that it is a replica of."""
    replica: int | None = None
    """Its number there."""
    drain_until: datetime | None = None
    """Of a replica that is to end: until then it finishes the calls that it has."""
    delete_volumes: bool = False
    """Its volumes end with it, and not all of them know yet. Not shown."""
    created_by: str | None = None


class Volume(StatefulRecord, collection="volumes", resource="volume"):
    """A volume of one engine: READY → DELETING → DELETED.

    At most one READY volume exists per organisation, name of a container and path.
    """

    transitions: ClassVar[Transitions] = VOLUME_TRANSITIONS
    facts: ClassVar = ("name", "path", "container", "node", "status", "reason")

    status: VolumeStatus = VolumeStatus.READY
    name: str
    """Of the containers that get it."""
    path: str
    container: str
    """uuid of the last one that was launched with it."""
    node: str
    node_name: str
