"""What may be asked for with an image."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from typing import Final

from pipeline.errors import InvalidInput, InvalidReference
from pipeline.oci import dotted_versions, image_needs, platforms, references
from schemas.container import EnvValue, PortSpec
from schemas.image import CLIENTS_OWN, ImageSpec, Needs

PORTS_MAX: Final = 128
GPUS_MAX: Final = 1024
MEMORY_MAX: Final = 2**60
PORT_RANGE: Final = range(1, 65536)


def parse_reference(spec: ImageSpec) -> references.Reference:
    """Raises InvalidReference that names its field."""
    try:
        return references.parse(spec.reference)
    except InvalidReference as error:
        raise InvalidReference(error.message, field="reference") from error


def require_image(spec: ImageSpec) -> None:
    _require_needs(spec.needs or Needs())
    require_labels(spec.labels, "labels")
    annotated(spec.annotations)
    require_env(
        {name: env_text(value) for name, value in spec.defaults.env.items()}, "defaults.env"
    )
    require_ports(spec.defaults.ports, "defaults.ports")
    if spec.platform is not None:
        platforms.parse(spec.platform)


def _require_needs(needs: Needs) -> None:
    dotted_versions.require_versions(needs)
    wrong = [port for port in needs.ports if port not in PORT_RANGE]
    if wrong:
        raise InvalidInput(f"Ports are 1 to 65535, not {wrong[0]}.", field="needs.ports")
    require_distinct(needs.ports, "Port {} is listed twice.", "needs.ports")
    if needs.gpus > GPUS_MAX:
        raise InvalidInput(f"An image needs at most {GPUS_MAX} GPUs.", field="needs.gpus")
    if needs.memory_bytes > MEMORY_MAX:
        raise InvalidInput(
            f"An image needs at most {MEMORY_MAX} bytes of memory.", field="needs.memory_bytes"
        )


def require_distinct(ports: Iterable[Hashable], message: str, field: str) -> None:
    counted = Counter(ports)
    if len(counted) > PORTS_MAX:
        raise InvalidInput(f"At most {PORTS_MAX} ports can be published.", field=field)
    for port, times in counted.items():
        if times > 1:
            raise InvalidInput(message.format(port), field=field)


def require_labels(labels: Mapping[str, str], field: str) -> None:
    for key, value in labels.items():
        require_no_nul(key + value, field)


def annotated(
    given: Mapping[str, str],
    own: Mapping[str, str] | None = None,
    before: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Annotations `given` in place of those `before`, with `own`, which no request brings.

    What was own before stays, and may be sent back as it was. Raises InvalidInput.
    """
    require_labels(given, "annotations")
    kept = {name: text for name, text in (before or {}).items() if name == CLIENTS_OWN}
    if given.get(CLIENTS_OWN) not in (None, kept.get(CLIENTS_OWN)):
        raise InvalidInput(
            f"The annotation {CLIENTS_OWN} is the platform's own: choose another name.",
            field="annotations",
        )
    return {**kept, **given, **(own or {})}


def require_no_nul(text: str, field: str) -> None:
    if "\0" in text:
        raise InvalidInput(f"{field} holds a NUL: no program can be given one.", field=field)


def require_env(env: Mapping[str, str], field: str = "env") -> None:
    """What can be set in an environment, and what NVIDIA's container toolkit reads can be read."""
    for name, value in env.items():
        # Its value is not repeated: it may be a secret, and so may be what follows a `=`.
        if not name or "=" in name or "\0" in name:
            raise InvalidInput(
                "Names of environment variables are not empty and hold neither = nor NUL.",
                field=field,
            )
        require_no_nul(value, field)
    if broken := image_needs.unreadable(env):
        raise InvalidInput(
            f"{broken[0]} cannot be read: write it like cuda>=12.4 brand=tesla,driver>=570, or set"
            f" {image_needs.DISABLE} to 1.",
            field=field,
        )


def env_text(value: EnvValue) -> str:
    """As a program gets it."""
    return value if isinstance(value, str) else json.dumps(value)


def require_ports(ports: list[PortSpec], field: str = "ports") -> None:
    internal = [f"{port.internal}/{port.protocol}" for port in ports]
    require_distinct(internal, "Port {} of the container is listed twice.", field)
    fixed = [f"{port.host}/{port.protocol}" for port in ports if port.host]
    require_distinct(fixed, "Host port {} is asked for twice: it can be had once.", field)
