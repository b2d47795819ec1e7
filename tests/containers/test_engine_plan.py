"""How a container record becomes a container on an engine."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.containers import engine_plan
from schemas.container import ContainerSpec, Resources
from tests.support.records import container

NODE = engine_plan.NodeIdentity("here", "node-uuid")


@pytest.mark.parametrize(("leased", "told"), [(["GPU-1", "GPU-2"], "GPU-1,GPU-2"), ([], "void")])
def test_the_leased_gpus_are_the_only_and_last_word_on_devices(
    leased: list[str], told: str
) -> None:
    given = {
        "NVIDIA_VISIBLE_DEVICES": "all",
        "NVIDIA_VISIBLE_DEVICES=all,": "",
        "A": "b",
        "NVIDIA_VISIBLE_DEVICES_NOT": "c",
    }
    record = container(gpus=leased, spec=ContainerSpec(image="model", env=given))
    plan = engine_plan.plan(record, [], node=NODE, simulated=True)
    assert list(plan.env.items()) == [
        ("A", "b"),
        ("NVIDIA_VISIBLE_DEVICES_NOT", "c"),
        ("NVIDIA_VISIBLE_DEVICES", told),
    ]


@pytest.mark.parametrize(
    ("resources", "most"),
    [({}, 0), ({"cpus": 2}, 2), ({"cpus": 0.5, "cpus_limit": 2}, 2), ({"cpus_limit": 2}, 2)],
)
def test_the_engine_holds_it_to_the_limit_and_not_to_what_is_set_aside(
    resources: Any, most: float
) -> None:
    spec = ContainerSpec(image="model", resources=Resources(**resources))
    plan = engine_plan.plan(container(spec=spec), [], node=NODE, simulated=True)
    assert plan.cpus == most
