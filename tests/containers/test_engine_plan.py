"""How a container record becomes a container on an engine."""

from __future__ import annotations

import pytest

from pipeline.containers import engine_plan
from schemas.container import ContainerSpec
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
