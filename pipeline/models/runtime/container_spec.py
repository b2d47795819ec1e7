"""What a container of a model is made of, and how it is recognised."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any, Final

from pipeline import errors
from pipeline.models.version_rules import find_requirement
from schemas.container import (
    PURPOSE_LABEL,
    ContainerSpec,
    HealthCheck,
    PortSpec,
    Resources,
    RestartPolicy,
)
from schemas.image import Image
from schemas.model import ModelVersion

NAMED_BY: Final = "ml.openmodel.protocols"
"""Of an image: holds a list, `["v2"]` for example, spelt in many ways."""
_V2 = re.compile(r"\bv2\b")
GRPC_PORT: Final = 45000
"""Where models of `v2` listen."""
PORT_VARIABLE: Final = "PSC_MODEL_PORT"
PORT: Final = 8080
"""Told to a model whose image exposes no port that every user may open."""
LOWEST_PORT: Final = 1024
IDENTIFIER_LABEL: Final = "model.identifier"
VERSION_LABEL: Final = "model.version"
PROTOCOL_LABEL: Final = "model.protocol"
"""Which dialect the model speaks."""


class ModelProtocol(StrEnum):
    REST = "rest"
    """Spoken by every image that does not name another one."""
    GRPC = "grpc"


def spec_for(
    version: ModelVersion, image: Image, *, requirement: int, purpose: str
) -> ContainerSpec:
    """The same for the same image and requirement, so that a repeated launch is the same one."""
    found = find_requirement(requirement)
    protocol = of_image(image)
    port = next((port for port in image.needs.ports if port >= LOWEST_PORT), PORT)
    if protocol is ModelProtocol.GRPC:
        port = GRPC_PORT
    return ContainerSpec(
        image=image.uuid,
        env={PORT_VARIABLE: str(port)},
        ports=[PortSpec(internal=port)],
        gpus=found.gpus,
        resources=Resources(cpus=found.cpus, memory_bytes=found.memory_bytes),
        labels={
            IDENTIFIER_LABEL: version.model,
            VERSION_LABEL: version.version,
            PURPOSE_LABEL: purpose,
            PROTOCOL_LABEL: protocol.value,
        },
        restart=RestartPolicy.NO,
    )


def start_check(spec: ContainerSpec, timeout_s: float) -> HealthCheck:
    """The question whether a model has started: its status, until it is well for the first time.

    Not afterwards: many models answer one call at a time.
    """
    is_grpc = spec.labels[PROTOCOL_LABEL] == ModelProtocol.GRPC
    return HealthCheck(
        port=model_port(spec),
        protocol="model-grpc" if is_grpc else "model-rest",
        interval_s=1,
        timeout_s=min(timeout_s, 600),
        retries=1,
        start_period_s=min(timeout_s, 86400),
        until_ready=True,
    )


def of_image(image: Image) -> ModelProtocol:
    """What the model in the image speaks, as its labels and annotations tell."""
    named = (image.image_labels.get(NAMED_BY, ""), image.image_annotations.get(NAMED_BY, ""))
    return ModelProtocol.GRPC if any(map(_V2.search, named)) else ModelProtocol.REST


def model_port(spec: ContainerSpec) -> int:
    """Where a model listens: what it was told, else the first port that it publishes."""
    port = spec.env.get(PORT_VARIABLE, "")
    if port.isdecimal():
        return int(port)
    return spec.ports[0].internal if spec.ports else PORT


def unplaceable(error: errors.CannotPlace, requirement: int, image: Image) -> errors.ModelRefused:
    """Why no node takes a model, in words for its owner.

    `error` carries the reasons of every node in `facts["nodes"]`.
    """
    wanted = find_requirement(requirement)
    nodes: dict[str, list[dict[str, Any]]] = error.facts.get("nodes", {})
    lines = [
        f"{name}: {'; '.join(str(each['detail']) for each in reasons)}"
        for name, reasons in sorted(nodes.items())
    ]
    technical = "\n".join(lines) or error.message
    by_code = [{each["code"]: each for each in reasons} for reasons in nodes.values()]
    foreign = [reasons["platform"] for reasons in by_code if "platform" in reasons]
    if nodes and len(foreign) == len(nodes):
        there = ", ".join(sorted({str(each["actual"]) for each in foreign}))
        return errors.PlatformUnavailable(
            f"The image is for {image.platform}, and the nodes are {there}.", technical=technical
        )
    fitting = [reasons for reasons in by_code if "platform" not in reasons]
    if wanted.gpus and all("no_gpu" in reasons for reasons in fitting):
        return errors.GpuUnavailable("No node has a GPU.", technical=technical)
    return errors.InsufficientResources(
        f"No node has what was needed: {wanted}.", technical=technical
    )
