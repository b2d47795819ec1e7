"""Why no node takes a model."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import (
    CannotPlace,
    GpuUnavailable,
    InsufficientResources,
    ModelRefused,
    NoCapacity,
    PlatformUnavailable,
)
from pipeline.rules import model_placement, model_requirements
from schemas.image import Platform

ARM = Platform(architecture="arm64")
SMALL, GPU = model_requirements.find(1), model_requirements.find(-6)


def reason(code: str, actual: Any = None) -> dict[str, Any]:
    return {"code": code, "detail": f"{code} it is", "required": None, "actual": actual}


def cannot(**nodes: list[dict[str, Any]]) -> CannotPlace:
    return CannotPlace("Nothing fits.", nodes=nodes)


def refused(error: CannotPlace, *, gpu: bool = False) -> ModelRefused:
    return model_placement.refusal(error, GPU if gpu else SMALL, ARM)


FOREIGN = reason("platform", "linux/amd64")


def test_when_no_node_has_the_platform_both_sides_are_named() -> None:
    other = reason("platform", "linux/riscv64")
    error = refused(cannot(a=[FOREIGN], b=[other, reason("memory")], c=[FOREIGN]))
    assert isinstance(error, PlatformUnavailable)
    assert error.message == (
        "The image is for linux/arm64, and the nodes are linux/amd64, linux/riscv64."
    )


def test_one_node_of_the_platform_makes_it_a_matter_of_resources() -> None:
    error = refused(cannot(a=[FOREIGN], b=[reason("memory")]))
    assert isinstance(error, InsufficientResources)
    assert str(SMALL) in error.message


@pytest.mark.parametrize("more", [[], [reason("memory")]])
def test_when_no_fitting_node_has_a_gpu_that_is_said(more: list[dict[str, Any]]) -> None:
    error = refused(cannot(a=[FOREIGN], b=[reason("no_gpu"), *more]), gpu=True)
    assert isinstance(error, GpuUnavailable)


def test_gpus_that_are_taken_are_no_missing_gpus() -> None:
    error = refused(cannot(a=[reason("no_gpu")], b=[reason("gpus_busy")]), gpu=True)
    assert isinstance(error, InsufficientResources)


def test_a_model_that_needs_no_gpu_never_lacks_one() -> None:
    assert isinstance(refused(cannot(a=[reason("no_gpu")])), InsufficientResources)


def test_without_nodes_there_is_neither_platform_nor_gpu() -> None:
    assert isinstance(refused(cannot()), InsufficientResources)
    assert isinstance(refused(cannot(), gpu=True), GpuUnavailable)


def test_the_reasons_of_every_node_are_kept() -> None:
    error = refused(cannot(b=[reason("memory"), reason("cpus")], a=[reason("labels")]))
    assert error.facts["technical"] == "a: labels it is\nb: memory it is; cpus it is"


def test_without_reasons_the_message_is_kept() -> None:
    assert refused(NoCapacity("All are busy.")).facts["technical"] == "All are busy."
