"""What the counters of an engine and of GPUs come to, in percent of what a replica may use."""

from __future__ import annotations

import pytest

from pipeline.agent.sampling import Sample, figures, gpu_percents, shown
from pipeline.ports import EngineUse, GpuUse

SECOND = 10**9


def use(at_s: float, cpu_s: float, memory_bytes: int = 25) -> EngineUse:
    return EngineUse(int(at_s * SECOND), int(cpu_s * SECOND), 8, memory_bytes, 100)


@pytest.mark.parametrize(
    ("before", "cpus", "told"),
    [
        (use(0, 10), 0, 25),  # 20 s of CPUs in 10 s are 2 of 8
        (use(0, 10), 4, 50),
        (use(0, 10), 0.5, 400),  # an engine that lets it have more
        (None, 0, None),
        (use(10, 30), 0, None),  # the same moment
        (use(0, 31), 0, None),  # it was started again in between
    ],
)
def test_cpus_are_told_since_the_look_before(
    before: EngineUse | None, cpus: float, told: float | None
) -> None:
    assert figures(Sample(use(10, 30), before, ()), cpus) == {
        "memory": 25,
        **({} if told is None else {"cpu": told}),
    }


@pytest.mark.parametrize(
    ("uses", "told"),
    [
        ([GpuUse(90, 20), GpuUse(10, 40)], {"gpu": 50, "gpu_memory": 30}),
        ([GpuUse(None, 20)], {"gpu_memory": 20}),
        ([GpuUse(90, 20), GpuUse(None, 20)], {"gpu_memory": 20}),
        ([], {}),
    ],
)
def test_gpus_of_a_replica_are_told_when_all_of_them_tell(
    uses: list[GpuUse], told: dict[str, float]
) -> None:
    assert gpu_percents(uses) == told


def test_what_is_not_known_is_not_shown() -> None:
    assert shown(Sample(use(10, 30), None, ())) == {
        "memory_bytes": 25,
        "memory_limit_bytes": 100,
        "network_received_bytes": 0,
        "network_sent_bytes": 0,
    }
    full = shown(Sample(use(10, 30), use(0, 10), [GpuUse(90, 20)]))
    assert (full["cpus"], full["gpu_percent"], full["gpu_memory_percent"]) == (2, 90, 20)
