"""Why no node takes a model, in the words of the models' door."""

from __future__ import annotations

from typing import Any

from pipeline.errors import (
    CannotPlace,
    GpuUnavailable,
    InsufficientResources,
    ModelRefused,
    PlatformUnavailable,
)
from pipeline.rules.model_requirements import Requirement
from schemas.image import Platform


def refusal(
    error: CannotPlace, requirement: Requirement, platform: Platform | None
) -> ModelRefused:
    """`error` carries the reasons of every node in `facts["nodes"]`."""
    nodes: dict[str, list[dict[str, Any]]] = error.facts.get("nodes", {})
    technical = _told(error, nodes)
    foreign = [_of(reasons, "platform") for reasons in nodes.values()]
    if nodes and all(foreign):
        there = ", ".join(sorted({str(each["actual"]) for each in foreign if each}))
        return PlatformUnavailable(
            f"The image is for {platform}, and the nodes are {there}.", technical=technical
        )
    fitting = [reasons for reasons in nodes.values() if not _of(reasons, "platform")]
    if requirement.gpus and all(_of(reasons, "no_gpu") for reasons in fitting):
        return GpuUnavailable("No node has a GPU.", technical=technical)
    return InsufficientResources(
        f"No node has what was needed: {requirement}.", technical=technical
    )


def _of(reasons: list[dict[str, Any]], code: str) -> dict[str, Any] | None:
    return next((each for each in reasons if each["code"] == code), None)


def _told(error: CannotPlace, nodes: dict[str, list[dict[str, Any]]]) -> str:
    lines = [
        f"{name}: {'; '.join(str(each['detail']) for each in reasons)}"
        for name, reasons in sorted(nodes.items())
    ]
    return "\n".join(lines) or error.message
