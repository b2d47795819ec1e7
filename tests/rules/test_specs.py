"""What may be asked for of an image or a container."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import InvalidInput
from pipeline.rules import specs
from schemas.container import ContainerSpec
from schemas.image import ImageSpec, Needs

MIB = 2**20


def container(**values: Any) -> ContainerSpec:
    return ContainerSpec.model_validate({"image": "model", **values})


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"needs": {"ports": [0]}}, "needs.ports"),
        ({"needs": {"ports": [70000]}}, "needs.ports"),
        ({"needs": {"ports": [-1]}}, "needs.ports"),
        ({"needs": {"ports": [80, 80]}}, "needs.ports"),
        ({"needs": {"ports": list(range(1, 1000))}}, "needs.ports"),
        ({"needs": {"cuda": "the newest"}}, "needs.cuda"),
        ({"needs": {"gpus": 10**30}}, "needs.gpus"),
        ({"needs": {"memory_bytes": 10**30}}, "needs.memory_bytes"),
        ({"platform": "x\0"}, "platform"),
        ({"platform": "a/b/c/d/e"}, "platform"),
        ({"platform": ""}, "platform"),
        ({"labels": {"a\0": "b"}}, "labels"),
    ],
)
def test_an_image_that_cannot_be_is_refused_by_its_field(
    values: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        specs.require_image(ImageSpec.model_validate({"reference": "model:1", **values}))
    assert refused.value.facts["field"] == field


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"env": {"": "a"}}, "env"),
        ({"env": {"A=B": "c"}}, "env"),
        ({"env": {"NVIDIA_VISIBLE_DEVICES=all,": ""}}, "env"),
        ({"env": {"A\0": "b"}}, "env"),
        ({"env": {"A": "b\0"}}, "env"),
        ({"command": ["sh", "\0"]}, "command"),
        ({"labels": {"a\0": "b"}}, "labels"),
        ({"labels": {"a": "\0"}}, "labels"),
        ({"node_labels": {"a\0": "b"}}, "node_labels"),
        ({"resources": {"memory_bytes": 6 * MIB - 1}}, "resources.memory_bytes"),
        ({"resources": {"memory_bytes": 10**30}}, "resources.memory_bytes"),
        ({"resources": {"cpus": 0.001}}, "resources.cpus"),
        ({"resources": {"cpus": float("inf")}}, "resources.cpus"),
        ({"ports": [{"internal": 80}, {"internal": 80, "host": 9}]}, "ports"),
        ({"ports": [{"internal": 80, "host": 9}, {"internal": 81, "host": 9}]}, "ports"),
        ({"ports": [{"internal": port} for port in range(1, 1000)]}, "ports"),
        ({"gpu_model": "!!!", "gpus": 1}, "gpu_model"),
        ({"gpu_model": "\0", "gpus": 1}, "gpu_model"),
        ({"gpu_model": "", "gpus": 1}, "gpu_model"),
        ({"gpu_model": "..", "gpus": 1}, "gpu_model"),
    ],
)
def test_a_container_that_cannot_be_is_refused_by_its_field(
    values: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        specs.require_container(container(**values))
    assert refused.value.facts["field"] == field


@pytest.mark.parametrize("values", [{}, {"gpus": 0}])
def test_a_model_of_gpu_without_a_gpu_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refused:
        specs.require_completed(container(gpu_model="h100", **values))
    assert refused.value.facts["field"] == "gpu_model"


def test_what_may_be_asked_for_is_let_through() -> None:
    full = container(
        command=["sh", "-c", "echo =a\nb"],
        env={"A": "b=c", "lower.case-name": ""},
        labels={"": "", "a.b": "$c"},
        resources={"memory_bytes": 6 * MIB, "cpus": 0.5},
        ports=[
            {"internal": 53, "host": 9, "protocol": "udp"},
            {"internal": 53, "host": 9},
            {"internal": 80},
            {"internal": 81},
        ],
        gpus=1,
        gpu_model="nvidia",
        health={"port": 80},
    )
    specs.require_container(full)
    specs.require_completed(full)
    needs = {"ports": [1, 65535], "gpus": 1024, "memory_bytes": 1, "cuda": "12.1"}
    asked = {"reference": "model", "needs": needs, "platform": "linux/arm64/v8"}
    specs.require_image(ImageSpec.model_validate(asked))


def test_what_an_image_exposes_is_published_as_far_as_it_can_be() -> None:
    ports = [port.internal for port in specs.exposed(Needs(ports=[0, 70000, -1, 80, 80, 9000]))]
    assert ports == [80, 9000]
    assert len(specs.exposed(Needs(ports=list(range(1, 65536))))) == specs.PORTS_MAX
