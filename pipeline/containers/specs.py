"""What may be asked for of a container, and how it is set up as far as its owner may choose.

Checked where requests come in, not in the shapes: what is stored already must stay readable.
Everything here raises InvalidInput that names the field. What would reach into the host (its paths,
devices, networks and namespaces, privileges) has no field at all.
"""

from __future__ import annotations

import ipaddress
import math
import re
import signal
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from pipeline.containers.engine_plan import RESERVED
from pipeline.containers.file_archives import ROOT
from pipeline.errors import Conflict, InvalidInput, NotReady
from pipeline.images.specs import (
    MEMORY_MAX,
    PORT_RANGE,
    PORTS_MAX,
    env_text,
    require_distinct,
    require_env,
    require_labels,
    require_no_nul,
    require_ports,
)
from schemas.container import ContainerSpec, Ipc, PortSpec, Resources, Ulimit
from schemas.image import Image, Needs
from schemas.organisation import Amounts
from schemas.states import ImageStatus

MEMORY_MIN: Final = 6 * 2**20
"""What an engine takes at least."""
CPUS_MIN: Final = 0.01
CPUS_MAX: Final = 65536
_WORD = re.compile(r"[a-z0-9.]+")
_VENDORS = frozenset({"nvidia", "amd", "intel"})
GPU_SHM_BYTES: Final = 8 * 2**30
"""Of containers with GPUs that say nothing: the 64 MiB of an engine break NCCL and the loaders of
PyTorch. It is a limit that is used as it is needed, nothing is set aside for it."""
SHM_MIN: Final = 2**16
STOP_GRACE_MAX_S: Final = 3600
MOUNTS_MAX: Final = 32
ALIASES_MAX: Final = 32
PATH_MAX_CHARS: Final = 1024
URL_MAX_CHARS: Final = 4096
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
ULIMITS: Final = frozenset(
    {"core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc"}
    | {"rss", "rtprio", "rttime", "sigpending", "stack"}
)
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,31})?")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_OF_THE_ENGINE: Final = ("/dev", "/proc", "/sys")


def require_container(spec: ContainerSpec) -> None:
    """Of the request as it came; `require_completed` looks at what the image adds to it."""
    require_env(spec.env)
    if len(spec.aliases) > ALIASES_MAX:
        raise InvalidInput(f"At most {ALIASES_MAX} aliases are kept.", field="aliases")
    require_labels(spec.labels, "labels")
    require_labels(spec.node_labels, "node_labels")
    for argument in spec.command:
        require_no_nul(argument, "command")
    require_ports(spec.ports)
    _require_resources(spec.resources)
    _require_options(spec)
    if spec.gpu_model is not None and not _names_model(spec.gpu_model):
        raise InvalidInput(
            "gpu_model names no model: write it like nvidia-a100, or leave it out.",
            field="gpu_model",
        )


def require_completed(spec: ContainerSpec) -> None:
    """Of a spec in which the needs of the image stand where the caller said nothing."""
    if spec.gpu_model is not None and not spec.gpus:
        raise InvalidInput(
            "gpu_model chooses among GPUs, and none is asked for: say how many as gpus.",
            field="gpu_model",
        )
    internal = {port.internal for port in spec.ports}
    if spec.health is not None and spec.health.port not in internal:
        raise InvalidInput(
            f"The health check asks port {spec.health.port}, which is not published: add it to"
            " ports.",
            field="health.port",
        )


def inherited(spec: ContainerSpec, image: Image) -> ContainerSpec:
    """The spec with what its image says where the caller said nothing."""
    defaults = image.defaults
    gpus = image.needs.gpus if defaults.gpus is None else defaults.gpus
    ports = spec.ports
    if spec.publish_exposed:
        ports = ports or defaults.ports or exposed(image.needs)
    is_published = defaults.health and defaults.health.port in {port.internal for port in ports}
    given = {name: env_text(value) for name, value in defaults.env.items()}
    return spec.model_copy(
        update={
            "gpus": gpus if spec.gpus is None else spec.gpus,
            "env": given | spec.env,
            "ports": ports,
            "health": spec.health or (defaults.health if is_published else None),
        }
    )


def exposed(needs: Needs) -> list[PortSpec]:
    """The ports that an image exposes, as far as they can be published: the first ones of many."""
    ports = [port for port in dict.fromkeys(needs.ports) if port in PORT_RANGE]
    return [PortSpec(internal=port) for port in ports[:PORTS_MAX]]


def fits_model(wanted: str | None, model: str) -> bool:
    """Names of GPU models as people write them: case, vendor and punctuation do not count.

    `nvidia-a100` fits `NVIDIA A100-SXM4-80GB`; nothing wanted fits everything.
    """
    if not wanted:
        return True
    return set(_WORD.findall(wanted.lower())) - _VENDORS <= set(_WORD.findall(model.lower()))


def _names_model(wanted: str) -> bool:
    """A text without any word would fit every model."""
    return any(word.strip(".") for word in _WORD.findall(wanted.lower()))


def _require_resources(resources: Resources) -> None:
    memory = resources.memory_bytes
    if memory and not MEMORY_MIN <= memory <= MEMORY_MAX:
        raise InvalidInput(
            f"memory_bytes is 0 for no limit, else {MEMORY_MIN} to {MEMORY_MAX}.",
            field="resources.memory_bytes",
        )
    for name in ("cpus", "cpus_limit"):
        cpus = getattr(resources, name)
        if cpus and not (math.isfinite(cpus) and CPUS_MIN <= cpus <= CPUS_MAX):
            raise InvalidInput(
                f"{name} is 0 for no limit, else {CPUS_MIN} to {CPUS_MAX}.",
                field=f"resources.{name}",
            )
    if resources.cpus > resources.most_cpus:
        raise InvalidInput(
            f"cpus_limit is at least the {resources.cpus:g} cpus that are set aside.",
            field="resources.cpus_limit",
        )


def _require_options(spec: ContainerSpec) -> None:
    _require_memory(spec)
    _require_program(spec)
    for name, limit in spec.ulimits.items():
        _require_ulimit(name, limit)
    for host, address in spec.extra_hosts.items():
        _require_host(host, address)
    _require_tmpfs(spec.tmpfs)
    _require_volumes(spec)
    _require_assets(spec)
    if spec.stop_grace_s is not None and not 0 <= spec.stop_grace_s <= STOP_GRACE_MAX_S:
        raise InvalidInput(f"stop_grace_s is 0 to {STOP_GRACE_MAX_S}.", field="stop_grace_s")
    if spec.ipc_with is not None and spec.ipc is not Ipc.PRIVATE:
        raise InvalidInput(
            "ipc_with joins the memory of another container: leave ipc out.", field="ipc_with"
        )


def shm_bytes(spec: ContainerSpec, gpus: int) -> int | None:
    """What it gets as /dev/shm: what it asks for, else enough for GPUs and not more than half of
    its memory; None is the engine's own default."""
    if spec.shm_size_bytes is not None or not gpus or spec.ipc_with is not None:
        return spec.shm_size_bytes
    memory = spec.resources.memory_bytes
    return min(GPU_SHM_BYTES, max(memory // 2, SHM_MIN)) if memory else GPU_SHM_BYTES


def _require_memory(spec: ContainerSpec) -> None:
    shm, memory = spec.shm_size_bytes, spec.resources.memory_bytes
    if shm is None:
        return
    if not SHM_MIN <= shm <= MEMORY_MAX:
        raise InvalidInput(f"shm_size_bytes is at least {SHM_MIN}.", field="shm_size_bytes")
    if memory and shm > memory:
        raise InvalidInput(
            f"What lies in /dev/shm counts as memory, of which it may use {memory} bytes: ask for"
            " less shm_size_bytes or more memory_bytes.",
            field="shm_size_bytes",
        )


def _require_program(spec: ContainerSpec) -> None:
    if spec.entrypoint is not None and not (spec.entrypoint and spec.entrypoint[0]):
        raise InvalidInput("entrypoint names no program: leave it out.", field="entrypoint")
    for argument in spec.entrypoint or ():
        require_no_nul(argument, "entrypoint")
    require_place(spec.working_dir, spec.user)
    if spec.stop_signal is not None and spec.stop_signal not in signal.Signals.__members__:
        raise InvalidInput("stop_signal is a name such as SIGTERM.", field="stop_signal")


def require_place(working_dir: str | None, user: str | None) -> None:
    """Where and as whom a program starts."""
    if working_dir is not None:
        _require_path(working_dir, "working_dir")
    if user is not None and not _USER.fullmatch(user):
        raise InvalidInput("user is a name or number, or user:group.", field="user")


def _require_ulimit(name: str, limit: Ulimit) -> None:
    field = f"ulimits.{name}"
    if name not in ULIMITS:
        known = ", ".join(sorted(ULIMITS))
        raise InvalidInput(f"There is no such limit: {known} are known.", field="ulimits")
    for value in (limit.soft, limit.hard):
        if not -1 <= value < 2**63:
            raise InvalidInput("A limit is -1 for none, or a number from 0.", field=field)
    if limit.hard != -1 and not 0 <= limit.soft <= limit.hard:
        raise InvalidInput("The soft limit is above the hard one.", field=field)


def _require_host(host: str, address: str) -> None:
    if not _HOST.fullmatch(host):
        raise InvalidInput("Names of extra_hosts are host names.", field="extra_hosts")
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise InvalidInput(
            f"extra_hosts gives {host} no IP address.", field="extra_hosts"
        ) from None


def _require_tmpfs(tmpfs: Mapping[str, int]) -> None:
    if len(tmpfs) > MOUNTS_MAX:
        raise InvalidInput(f"At most {MOUNTS_MAX} tmpfs can be mounted.", field="tmpfs")
    for path, size in tmpfs.items():
        _require_path(path, "tmpfs")
        if path == "/" or any(f"{path}/".startswith(f"{own}/") for own in _OF_THE_ENGINE):
            raise InvalidInput(
                f"No tmpfs can be mounted on {path}: choose another folder; /dev/shm is sized by"
                " shm_size_bytes.",
                field="tmpfs",
            )
        if not SHM_MIN <= size <= MEMORY_MAX:
            raise InvalidInput(f"A tmpfs has at least {SHM_MIN} bytes.", field="tmpfs")


def _require_volumes(spec: ContainerSpec) -> None:
    if len(spec.volumes) > MOUNTS_MAX:
        raise InvalidInput(f"At most {MOUNTS_MAX} volumes can be mounted.", field="volumes")
    paths = [volume.path for volume in spec.volumes]
    for path in paths:
        _require_path(path, "volumes")
        if path == "/" or "//" in path or path.endswith("/") or len(path) > PATH_MAX_CHARS:
            raise InvalidInput(
                "Paths of volumes are like /data: not / itself, without // or / at the end.",
                field="volumes",
            )
        if any(f"{path}/".startswith(f"{taken}/") for taken in (*_OF_THE_ENGINE, f"/{ROOT}")):
            raise InvalidInput(
                f"No volume can be mounted on {path}: choose another folder.", field="volumes"
            )
    require_distinct([*paths, *spec.tmpfs], "Two things are to be mounted on {}.", "volumes")


def _require_assets(spec: ContainerSpec) -> None:
    if len(spec.assets) > MOUNTS_MAX:
        raise InvalidInput(f"At most {MOUNTS_MAX} assets can be given.", field="assets")
    for asset in spec.assets:
        if not _VARIABLE.fullmatch(asset.env_key) or asset.env_key in spec.env:
            raise InvalidInput(
                "env_key names a variable, of letters, digits and _, that env does not set.",
                field="assets",
            )
        if asset.sha256 is not None and not _SHA256.fullmatch(asset.sha256):
            raise InvalidInput("sha256 is 64 digits of lower-case hex.", field="assets")
        _require_url(asset.url)
    keys = [asset.env_key for asset in spec.assets]
    require_distinct(keys, "{} is the variable of two assets.", "assets")
    urls = [asset.url for asset in spec.assets]
    require_distinct(urls, "The same URL is given twice.", "assets")


def _require_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_fine = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.username
    except ValueError:
        is_fine = False
    if not is_fine or not url.isprintable() or " " in url or len(url) > URL_MAX_CHARS:
        raise InvalidInput(
            "url of an asset is http:// or https:// with a host and no credentials.", field="assets"
        )


def _require_path(path: str, field: str) -> None:
    require_no_nul(path, field)
    parts = path.split("/")
    if not path.startswith("/") or ".." in parts or "." in parts or ":" in path or "," in path:
        raise InvalidInput(f"{field} is a whole path such as /work.", field=field)


def amounts(spec: ContainerSpec) -> Amounts:
    """What a container of a completed spec counts for in quotas."""
    return Amounts(containers=1, gpus=spec.gpus or 0)


def refuse_unnamed_volumes(spec: ContainerSpec) -> None:
    if spec.volumes and spec.name is None:
        raise InvalidInput(
            "Volumes are found again by the name of their container: give it one.", field="name"
        )


def require_ready(image: Image) -> None:
    """Raises NotReady and Conflict."""
    if image.status is ImageStatus.READY:
        return
    why = f": {image.reason}" if image.reason else ""
    kind = Conflict if image.status is ImageStatus.FAILED else NotReady
    raise kind(f"The image {image.name} is {image.status}, not READY{why}")


def completed(spec: ContainerSpec, image: Image) -> ContainerSpec:
    """The spec as a container of it would have it."""
    reserved = [key for key in spec.labels if key.startswith(RESERVED)]
    if reserved:
        raise InvalidInput(
            f"Labels must not begin with {RESERVED!r}: {', '.join(reserved)}.", field="labels"
        )
    spec = inherited(spec, image)
    shm = shm_bytes(spec, spec.gpus or 0)
    spec = spec.model_copy(update={"shm_size_bytes": shm})
    require_completed(spec)
    return spec
