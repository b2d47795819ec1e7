"""Means, rates and percentiles of what a gateway counts."""

from __future__ import annotations

import random

import pytest

from pipeline.gateway.figures import Figures
from pipeline.gateway.metering import LONGEST_MS, Meter, buckets_of, latency_ms


def figures(under_way: int = 0, queued: int = 0, requests: int = 0) -> Figures:
    return Figures(under_way, queued, requests, idle_for_s=None)


def test_one_moment_says_nothing_and_two_say_what_was_between() -> None:
    meter = Meter()
    meter.add(0, {"a": figures(2, 1, 100)}, {"a": {5: 10}})
    assert meter.means() is None
    meter.add(2, {"a": figures(4, 1, 110), "b": figures(1, 0, 4)}, {"a": {5: 12, 8: 1}})
    assert meter.means() == {
        "a": {"under_way": 3, "queued": 1, "rate": 5, "latencies": [[5, 2], [8, 1]]},
        "b": {"under_way": 0.5, "queued": 0, "rate": 2, "latencies": []},
    }


def test_a_reload_begins_to_count_anew_and_loses_nothing_that_was_counted() -> None:
    meter = Meter()
    meter.add(0, {"a": figures(requests=100)}, {"a": {5: 10}})
    meter.add(2, {"a": figures(requests=110)}, {"a": {5: 20}})
    meter.add(4, {"a": figures(requests=6)}, {"a": {5: 3}})
    found = meter.means()
    assert found is not None
    assert (found["a"]["rate"], found["a"]["latencies"]) == (4, [[5, 13]])


def test_what_is_older_than_the_window_counts_no_more_and_who_is_not_called_is_left_out() -> None:
    meter = Meter()
    for at in range(0, 100, 2):
        busy = at < 10
        meter.add(
            at, {"a": figures(9 if busy else 0, requests=min(at, 10))}, {"a": {1: min(at, 10)}}
        )
        if at == 30:
            assert meter.means() == {
                "a": {"under_way": 0, "queued": 0, "rate": 0, "latencies": [[1, 10]]}
            }
    assert meter.means() == {}


def test_a_table_is_read_as_it_is_shown() -> None:
    text = (
        "# table: l_a, type: integer, size:512, used:2\n"
        "0x5629b5bc7dc8: key=0 use=0 exp=0 gpc0=2\n"
        "0x5629b5bc78f8: key=4096 use=1 exp=0 gpc0=31\n\n"
    )
    assert buckets_of(text) == {0: 2, 4096: 31}


@pytest.mark.parametrize(
    ("latencies", "percentile", "told"),
    [
        ({}, 95, None),
        ({10: 1}, None, 10.5),
        ({10: 50, 20: 50}, 50, 11),
        ({10: 50, 20: 50}, 95, 20.9),
        ({0: 99, 512: 1}, 95, 95 / 99),
        ({512: 4}, 75, 560),
        ({LONGEST_MS: 1}, 50, LONGEST_MS + 2048),
    ],
)
def test_percentiles_are_read_out_of_buckets(
    latencies: dict[int, int], percentile: int | None, told: float | None
) -> None:
    assert latency_ms(latencies, percentile) == (None if told is None else pytest.approx(told))


@pytest.mark.parametrize("percentile", [50, 75, 90, 95])
def test_a_percentile_is_right_within_an_eighth(percentile: int) -> None:
    chance = random.Random(percentile)
    real = sorted(int(chance.lognormvariate(5, 1.2)) for _ in range(5000))
    counted: dict[int, int] = {}
    for each in real:
        width = next(
            w
            for least, w in ((32768, 4096), (4096, 512), (512, 64), (64, 8), (0, 1))
            if each >= least
        )
        bucket = each // width * width
        counted[bucket] = counted.get(bucket, 0) + 1
    exact = real[len(real) * percentile // 100 - 1]
    assert latency_ms(counted, percentile) == pytest.approx(exact, rel=1 / 8)
