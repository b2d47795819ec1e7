"""When a registry is looked at again."""

from __future__ import annotations

import pytest

from pipeline.registries.checks import next_check_s


def wait(failures: int, jitter: float = 0.5) -> float:
    return next_check_s(failures, every_s=300, cap_s=3600, jitter=jitter)


@pytest.mark.parametrize(
    ("failures", "expected"), [(0, 300), (1, 600), (2, 1200), (3, 2400), (4, 3600), (10_000, 3600)]
)
def test_failures_in_a_row_double_the_wait_up_to_the_cap(failures: int, expected: float) -> None:
    assert wait(failures) == pytest.approx(expected)


def test_jitter_spreads_to_both_sides() -> None:
    assert wait(0, 0) == pytest.approx(240)
    assert wait(0, 0.999_999) == pytest.approx(360, abs=0.01)


def test_a_cap_below_the_interval_does_not_shorten_it() -> None:
    assert next_check_s(5, every_s=300, cap_s=10, jitter=0.5) == pytest.approx(300)
