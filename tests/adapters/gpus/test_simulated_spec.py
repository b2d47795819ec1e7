from __future__ import annotations

import pytest

from pipeline.adapters.gpus.simulated_spec import GIB, SimulatedGpu, parse
from pipeline.errors import InvalidInput


def test_a_count_of_one_model() -> None:
    assert parse("8xH100-80GB") == (SimulatedGpu("NVIDIA H100 80GB HBM3", 80 * GIB, "9.0"),) * 8


def test_a_mix_keeps_its_order() -> None:
    models = [gpu.model for gpu in parse("2xA100-40GB, 1xT4-16GB")]
    assert models == ["NVIDIA A100-SXM4-40GB", "NVIDIA A100-SXM4-40GB", "Tesla T4"]


@pytest.mark.parametrize(
    ("text", "model", "gib", "capability"),
    [
        ("1xA100-80GB", "NVIDIA A100-SXM4-80GB", 80, "8.0"),
        ("1xh200", "NVIDIA H200", 141, "9.0"),
        ("1xL4-24GB", "NVIDIA L4", 24, "8.9"),
        ("1xT4", "Tesla T4", 16, "7.5"),
        ("1xb200-180gb", "NVIDIA B200", 180, "10.0"),
    ],
)
def test_models_are_named_as_nvml_names_them(
    text: str, model: str, gib: int, capability: str
) -> None:
    assert parse(text) == (SimulatedGpu(model, gib * GIB, capability),)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("", "8xH100-80GB"),
        ("H100", "8xH100-80GB"),
        ("0xH100", "8xH100-80GB"),
        ("-1xH100", "8xH100-80GB"),
        ("1xH100-80GB,", "8xH100-80GB"),
        ("1xH100-80", "8xH100-80GB"),
        ("1xVoodoo2", "known are"),
        ("1xA100-41GB", "A100-40GB or A100-80GB"),
        ("1025xT4", "at most 1024"),
        ("1000xT4,25xT4", "at most 1024"),
        ("99999999999xT4", "at most 1024"),
    ],
)
def test_what_makes_no_sense_is_answered_with_advice(text: str, advice: str) -> None:
    with pytest.raises(InvalidInput, match=advice):
        parse(text)
