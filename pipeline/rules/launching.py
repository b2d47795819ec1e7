"""How a container record becomes a container on an engine, and how it is known again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.ports import EngineContainer, LaunchPlan
from schemas.container import Container, PortBinding

MANAGED = "modelyard.managed"
INSTALLATION = "modelyard.installation"
NODE = "modelyard.node"
CONTAINER = "modelyard.container"
ORG = "modelyard.org"
FENCE = "modelyard.fence"
HASH = "modelyard.hash"
RESERVED = "modelyard."
DEVICES = "NVIDIA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True)
class Site:
    """Which engine this is: containers of another installation or node are foreign."""

    installation: str
    node: str

    @property
    def labels(self) -> dict[str, str]:
        return {MANAGED: "true", INSTALLATION: self.installation, NODE: self.node}

    def owns(self, seen: EngineContainer) -> bool:
        return all(seen.labels.get(key) == value for key, value in self.labels.items())


def name_of(uuid: str, node: str) -> str:
    """Deterministic, so that a repeated launch meets the first one's container.

    The node is part of it because two agents may share one engine.
    """
    return f"my-{uuid}-{node[:8]}"


def fence_of(seen: EngineContainer) -> int:
    text = seen.labels.get(FENCE, "")
    return int(text) if text.isdigit() else 0


def container_of(labels: Mapping[str, str]) -> str | None:
    return labels.get(CONTAINER)


def plan(
    record: Container, ports: Sequence[PortBinding], *, site: Site, simulated: bool
) -> LaunchPlan:
    """Simulated GPUs reach the container as a variable only: there is no device to ask for."""
    spec = record.spec
    ours = {
        CONTAINER: record.uuid,
        ORG: record.org,
        FENCE: str(record.fence),
        HASH: record.spec_hash,
    }
    return LaunchPlan(
        name=name_of(record.uuid, site.node),
        image=record.pull,
        command=tuple(spec.command),
        env=_environment(record),
        labels={**spec.labels, **site.labels, **ours},
        ports=tuple(ports),
        memory_bytes=spec.resources.memory_bytes,
        cpus=spec.resources.cpus,
        gpu_devices=() if simulated else tuple(record.gpus),
    )


def _environment(record: Container) -> dict[str, str]:
    """With the leased GPUs as its only and last word on devices, whatever the caller gave.

    An engine reads `name=value` and takes the last one, so that a name with a `=` is another name.
    """
    given = record.spec.env.items()
    others = {name: value for name, value in given if name.partition("=")[0] != DEVICES}
    return {**others, DEVICES: ",".join(record.gpus) or "void"}
