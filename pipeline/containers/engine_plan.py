"""How a container record becomes a container on an engine, and how it is known again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from pipeline.containers.file_archives import ROOT
from pipeline.ports import EngineContainer, LaunchOptions, LaunchPlan, Mount
from schemas.container import Container, ContainerSpec, PortBinding

MANAGED = "modelyard.managed"
INSTALLATION = "modelyard.installation"
NODE = "modelyard.node"
CONTAINER = "modelyard.container"
ORG = "modelyard.org"
FENCE = "modelyard.fence"
HASH = "modelyard.hash"
VOLUME = "modelyard.volume"
ASSETS = "modelyard.assets"
"""Of a container: the keys of the assets that it has, separated by commas."""
RESERVED = "modelyard."
DEVICES = "NVIDIA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """Whose engine this is: containers of another installation or node are foreign."""

    installation: str
    uuid: str

    @property
    def labels(self) -> dict[str, str]:
        return {MANAGED: "true", INSTALLATION: self.installation, NODE: self.uuid}

    def owns(self, seen: EngineContainer) -> bool:
        return all(seen.labels.get(key) == value for key, value in self.labels.items())


def name_of(uuid: str, node: str) -> str:
    """Deterministic, so that a repeated launch meets the first one's container.

    The node is part of it because two agents may share one engine.
    """
    return f"my-{uuid}-{node[:8]}"


def planned_name(record: Container, node: str) -> str:
    """What it is created as; one that replaces another gets the name that it asks for after it."""
    named = record.spec.engine_name if record.replaces is None else None
    return named or name_of(record.uuid, node)


def asset_key(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()


def asset_name(url: str) -> str:
    """The last part of its path, in letters that every system takes."""
    last = unquote(urlsplit(url).path).rpartition("/")[2]
    return re.sub("[^A-Za-z0-9._-]", "_", last).lstrip(".")[:128] or "asset"


def asset_path(url: str) -> str:
    """Where it is in a container."""
    return f"/{ROOT}/assets/{asset_key(url)}/{asset_name(url)}"


def volume_name(uuid: str) -> str:
    """What an engine calls the volume of this record."""
    return f"my-{uuid}"


def fence_of(seen: EngineContainer) -> int:
    text = seen.labels.get(FENCE, "")
    return int(text) if text.isdigit() else 0


def container_of(labels: Mapping[str, str]) -> str | None:
    return labels.get(CONTAINER)


def plan(
    record: Container,
    ports: Sequence[PortBinding],
    *,
    node: NodeIdentity,
    simulated: bool,
    mounts: Sequence[Mount] = (),
) -> LaunchPlan:
    """Simulated GPUs reach the container as a variable only: there is no device to ask for."""
    spec = record.spec
    ours = {
        CONTAINER: record.uuid,
        ORG: record.org,
        FENCE: str(record.fence),
        HASH: record.spec_hash,
    }
    if spec.assets:
        ours[ASSETS] = ",".join(asset_key(asset.url) for asset in spec.assets)
    return LaunchPlan(
        name=planned_name(record, node.uuid),
        image=record.pull,
        command=tuple(spec.command),
        env=_environment(record),
        labels={**spec.labels, **node.labels, **ours},
        ports=tuple(ports),
        memory_bytes=spec.resources.memory_bytes,
        cpus=spec.resources.most_cpus,
        gpu_devices=() if simulated else tuple(record.gpus),
        options=_options(spec, node),
        mounts=mounts,
    )


def _options(spec: ContainerSpec, node: NodeIdentity) -> LaunchOptions:
    joined = spec.ipc_with and f"container:{name_of(spec.ipc_with, node.uuid)}"
    return LaunchOptions(
        entrypoint=tuple(spec.entrypoint or ()),
        working_dir=spec.working_dir,
        user=spec.user,
        shm_bytes=spec.shm_size_bytes,
        ulimits={name: (limit.soft, limit.hard) for name, limit in spec.ulimits.items()},
        ipc=joined or spec.ipc.value,
        tmpfs=spec.tmpfs,
        read_only=spec.read_only,
        extra_hosts=spec.extra_hosts,
        stop_signal=spec.stop_signal,
        stop_grace_s=spec.stop_grace_s,
    )


def _environment(record: Container) -> dict[str, str]:
    """With the leased GPUs as its only and last word on devices, whatever the caller gave.

    An engine reads `name=value` and takes the last one, so that a name with a `=` is another name.
    """
    files = {asset.env_key: asset_path(asset.url) for asset in record.spec.assets}
    given = (record.spec.env | files).items()
    others = {name: value for name, value in given if name.partition("=")[0] != DEVICES}
    return {**others, DEVICES: ",".join(record.gpus) or "void"}
