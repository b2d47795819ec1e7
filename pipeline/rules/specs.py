"""What may be asked for of an image or a container.

Checked where requests come in, not in the shapes: what is stored already must stay readable.
Everything here raises InvalidInput that names the field.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from typing import Final

from pipeline.errors import InvalidInput
from pipeline.rules import eligibility, placement, platforms
from schemas.container import ContainerSpec, PortSpec, Resources
from schemas.image import ImageSpec, Needs

PORTS_MAX: Final = 128
GPUS_MAX: Final = 1024
MEMORY_MIN: Final = 6 * 2**20
"""What an engine takes at least."""
MEMORY_MAX: Final = 2**60
CPUS_MIN: Final = 0.01
CPUS_MAX: Final = 65536

_PORT_RANGE: Final = range(1, 65536)


def require_image(spec: ImageSpec) -> None:
    _require_needs(spec.needs or Needs())
    _require_labels(spec.labels, "labels")
    if spec.platform is not None:
        platforms.parse(spec.platform)


def require_container(spec: ContainerSpec) -> None:
    """Of the request as it came; `require_completed` looks at what the image adds to it."""
    _require_env(spec.env)
    _require_labels(spec.labels, "labels")
    _require_labels(spec.node_labels, "node_labels")
    for argument in spec.command:
        _require_no_nul(argument, "command")
    _require_ports(spec.ports)
    _require_resources(spec.resources)
    if spec.gpu_model is not None and not eligibility.names_model(spec.gpu_model):
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


def exposed(needs: Needs) -> list[PortSpec]:
    """The ports that an image exposes, as far as they can be published: the first ones of many."""
    ports = [port for port in dict.fromkeys(needs.ports) if port in _PORT_RANGE]
    return [PortSpec(internal=port) for port in ports[:PORTS_MAX]]


def _require_needs(needs: Needs) -> None:
    placement.require_versions(needs)
    wrong = [port for port in needs.ports if port not in _PORT_RANGE]
    if wrong:
        raise InvalidInput(f"Ports are 1 to 65535, not {wrong[0]}.", field="needs.ports")
    _require_distinct(needs.ports, "Port {} is listed twice.", "needs.ports")
    if needs.gpus > GPUS_MAX:
        raise InvalidInput(f"An image needs at most {GPUS_MAX} GPUs.", field="needs.gpus")
    if needs.memory_bytes > MEMORY_MAX:
        raise InvalidInput(
            f"An image needs at most {MEMORY_MAX} bytes of memory.", field="needs.memory_bytes"
        )


def _require_ports(ports: list[PortSpec]) -> None:
    internal = [f"{port.internal}/{port.protocol}" for port in ports]
    _require_distinct(internal, "Port {} of the container is listed twice.", "ports")
    fixed = [f"{port.host}/{port.protocol}" for port in ports if port.host]
    _require_distinct(fixed, "Host port {} is asked for twice: it can be had once.", "ports")


def _require_distinct(ports: Iterable[Hashable], message: str, field: str) -> None:
    counted = Counter(ports)
    if len(counted) > PORTS_MAX:
        raise InvalidInput(f"At most {PORTS_MAX} ports can be published.", field=field)
    for port, times in counted.items():
        if times > 1:
            raise InvalidInput(message.format(port), field=field)


def _require_resources(resources: Resources) -> None:
    memory, cpus = resources.memory_bytes, resources.cpus
    if memory and not MEMORY_MIN <= memory <= MEMORY_MAX:
        raise InvalidInput(
            f"memory_bytes is 0 for no limit, else {MEMORY_MIN} to {MEMORY_MAX}.",
            field="resources.memory_bytes",
        )
    if cpus and not (math.isfinite(cpus) and CPUS_MIN <= cpus <= CPUS_MAX):
        raise InvalidInput(
            f"cpus is 0 for no limit, else {CPUS_MIN} to {CPUS_MAX}.", field="resources.cpus"
        )


def _require_env(env: Mapping[str, str]) -> None:
    for name, value in env.items():
        # Its value is not repeated: it may be a secret, and so may be what follows a `=`.
        if not name or "=" in name or "\0" in name:
            raise InvalidInput(
                "Names of environment variables are not empty and hold neither = nor NUL.",
                field="env",
            )
        _require_no_nul(value, "env")


def _require_labels(labels: Mapping[str, str], field: str) -> None:
    for key, value in labels.items():
        _require_no_nul(key + value, field)


def _require_no_nul(text: str, field: str) -> None:
    if "\0" in text:
        raise InvalidInput(f"{field} holds a NUL: no program can be given one.", field=field)
