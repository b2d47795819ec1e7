"""What images say about the protocol of their model, and why no node takes one."""

from __future__ import annotations

import json
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
from pipeline.models.runtime import container_spec
from pipeline.models.runtime.container_spec import NAMED_BY, ModelProtocol
from pipeline.models.version_rules import find_requirement
from pipeline.oci import manifests
from pipeline.oci.manifests import Manifest
from schemas.image import Platform
from tests.support.archives.images import busybox_image
from tests.support.records import image

SPELT = ["v2", '["v2"]', '[["v2"]]', "['v1', 'v2']", "v1,v2", "v2,"]


@pytest.mark.parametrize("said", SPELT)
@pytest.mark.parametrize("member", ["image_labels", "image_annotations"])
def test_v2_means_grpc_wherever_and_however_it_is_spelt(member: str, said: str) -> None:
    told = image().model_copy(update={member: {NAMED_BY: said}})
    assert container_spec.of_image(told) is ModelProtocol.GRPC


@pytest.mark.parametrize("labels", [{}, {NAMED_BY: ""}, {NAMED_BY: '["v1"]'}, {"other": "v2"}])
@pytest.mark.parametrize("more", ["v20", "grpcv2", "v2x"])
def test_everything_else_speaks_rest(labels: dict[str, str], more: str) -> None:
    for said in (labels, {NAMED_BY: more}):
        told = image().model_copy(update={"image_labels": said})
        assert container_spec.of_image(told) is ModelProtocol.REST


def test_annotations_are_read_from_a_manifest() -> None:
    document = json.loads(busybox_image().manifest())
    plain = manifests.read_manifest(json.dumps(document).encode())
    document["annotations"] = {NAMED_BY: '["v2"]'}
    told = manifests.read_manifest(json.dumps(document).encode())
    assert isinstance(plain, Manifest)
    assert isinstance(told, Manifest)
    assert (plain.annotations, told.annotations) == ({}, {NAMED_BY: '["v2"]'})


ARM = Platform(architecture="arm64")


def reason(code: str, actual: Any = None) -> dict[str, Any]:
    return {"code": code, "detail": f"{code} it is", "required": None, "actual": actual}


def cannot(**nodes: list[dict[str, Any]]) -> CannotPlace:
    return CannotPlace("Nothing fits.", nodes=nodes)


def refused(error: CannotPlace, *, gpu: bool = False) -> ModelRefused:
    return container_spec.unplaceable(error, -6 if gpu else 1, image(platform=ARM))


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
    assert str(find_requirement(1)) in error.message


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
