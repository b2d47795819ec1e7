"""Autoscaling under load that changes: each course worked out by hand, and no flapping."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.deployments.autoscaling import Seen
from schemas.deployment import (
    AutoscalePolicy,
    Metric,
    ScalingBehavior,
    ScalingSchedule,
    ScalingStep,
    ScalingTarget,
)
from tests.support.load import UnderLoad
from tests.support.records import AT

FOUR_EACH = [ScalingTarget(metric=Metric.CONCURRENCY, value=4)]
DEFAULT = AutoscalePolicy(targets=FOUR_EACH)
"""Up at once, to double or by four every 15 s; down to what was enough for five minutes."""


def shared(total: float) -> Seen:
    return Seen(shared={Metric.CONCURRENCY: total})


RECORDED = """
0 0 0.3 0.8 0.6 0.7 0.7 0.6 0.9 1 0.9 0.6 0.9 0.8 0.8 0.9 1 1.1 1.2 1.2 1.1 1.1 1.2 1.4 1.2
1.4 1.2 1.2 1.1 1.2 1 0.9 0.9 0.8 1 1.8 1.9 2.8 2.8 3.2 3.8 4 4.1 3.9 4.6 4.2 4.8 4.9 5 5.1
6 6.4 6.4 7.5 8.2 8.4 9.2 10.9 11.1 12.6 13.4 13.2 13.8 13.9 13.6 13.1 12.9 12 11.8 12.5
12.1 13 13.1 13.2 14 14.6 15.9 15.8 17.4 17.6 19 19.6 19.2 18.9 17.5 16.5 15.2 14.6 14.1
13.8 14.8 14.8 16 17.1 18 18.4 17.9 16.6 15.4 15 15.1 14.4 14.2 14.6 15.6 17.4 16.4 15 12.5
11.1 9.1 7.1 4.1 1.8 1.6 1.9 1.9 2.1 1.9 1.9 1.9 7 12.1 17.8 18 17.9 18.1 18 18 12.8 7.4 1.5
1.2 1 0.6 0.6 0.8 1 1 1.1 1.5
"""
"""Calls under way at a HAProxy as `Meter` told them, every 2 s: of one in a second, then 20 by and
by, then a wave, a pause and a spike of 60 a second for 6 s; half of the answers take over 0.7 s."""


def test_recorded_calls_are_followed_up_and_left_five_minutes_after_the_last_that_needed_them() -> (
    None
):
    calls = [float(each) for each in RECORDED.split()]
    course = UnderLoad(DEFAULT, lambda at, _: shared(calls[min(int(at // 2), len(calls) - 1)]))
    # 4.9, 10.9, 13.4 and 19 calls. At 255 s 18 are near enough to 5 times 4; at 260 s 7.4 want 2,
    # and at 265 s 1.2 want one.
    assert course.run(700).changes == [(95, 2), (115, 3), (120, 4), (160, 5), (555, 2), (560, 1)]


def test_a_step_is_followed_at_once_and_left_after_five_minutes() -> None:
    # 20 calls at once from 60 s to 600 s: 5 replicas. The last look that wanted them is at 595 s.
    course = UnderLoad(DEFAULT, lambda at, _: shared(20 if 60 <= at < 600 else 2)).run(1200)
    assert course.changes == [(60, 5), (895, 1)]


def test_a_high_step_is_climbed_as_fast_as_the_steps_allow() -> None:
    # 100 calls: 25 are wanted, of at most 20. From 1: 4 more, then double every 15 s.
    course = UnderLoad(DEFAULT, lambda at, _: shared(100), max_replicas=20).run(300)
    assert course.changes == [(0, 5), (15, 10), (30, 20)]


def test_a_ramp_is_followed_without_a_step_back() -> None:
    course = UnderLoad(DEFAULT, lambda at, _: shared(at / 30)).run(1200)
    assert course.turns == 0
    # At 1195 s there are 39.8: 10 replicas. 2 are wanted when 1 has 10 % too many: 4.4, at 132 s.
    assert course.changes[0] == (135, 2)
    assert course.counts[-1][1] == 10


def test_noise_within_the_tolerance_changes_nothing() -> None:
    noise = random.Random(1)
    course = UnderLoad(DEFAULT, lambda at, _: shared(20 * noise.uniform(0.91, 1.09)), replicas=5)
    assert course.run(3600).changes == []


def test_noise_beyond_the_tolerance_goes_up_and_stays() -> None:
    noise = random.Random(2)
    course = UnderLoad(DEFAULT, lambda at, _: shared(20 * noise.uniform(0.5, 1.5)), replicas=5)
    assert course.run(3600).turns == 0
    assert 6 <= course.counts[-1][1] <= 8


def test_a_slow_wave_turns_twice_a_period_and_a_fast_one_not_at_all() -> None:
    def wave(period_s: float) -> UnderLoad:
        def load(at: float, _: object) -> Seen:
            return shared(20 - 16 * math.cos(2 * math.pi * at / period_s))

        return UnderLoad(DEFAULT, load).run(4 * 3600)

    assert wave(3600).turns == 7, "up and down four times"
    assert wave(120).turns == 0, "every trough is shorter than five minutes"


def test_a_spike_of_one_look_is_followed_unless_the_rule_waits() -> None:
    def spike(at: float, _: object) -> Seen:
        return shared(40 if at == 300 else 3)

    assert UnderLoad(DEFAULT, spike).run(900).changes == [(300, 5), (600, 1)]
    patient = DEFAULT.model_copy(update={"scale_up": ScalingBehavior(stabilization_s=30)})
    assert UnderLoad(patient, spike).run(900).changes == []


def test_steps_down_are_taken_one_after_the_other() -> None:
    steps = [ScalingStep(kind="percent", value=25, period_s=60)]
    gentle = DEFAULT.model_copy(update={"scale_down": ScalingBehavior(steps=steps)})
    course = UnderLoad(gentle, lambda at, _: shared(4), replicas=16, max_replicas=16).run(600)
    # 12, 9, 6 (6.75), 4 (4.5), 3, 2 (2.25), 1 (1.5)
    assert course.changes == [
        (0, 12), (60, 9), (120, 6), (180, 4), (240, 3), (300, 2), (360, 1),
    ]  # fmt: skip


def test_while_nobody_tells_nothing_moves_and_afterwards_the_window_begins_anew() -> None:
    def silent(at: float, _: object) -> Seen:
        return Seen() if 60 <= at < 900 else shared(20 if at < 60 else 2)

    course = UnderLoad(DEFAULT, silent).run(1500)
    assert course.changes == [(0, 5), (1195, 1)]


def test_a_process_that_remembers_nothing_waits_a_whole_window_before_it_ends_anything() -> None:
    course = UnderLoad(DEFAULT, lambda at, _: shared(20 if at < 60 else 2))
    course.run(200)
    course.run(1000, forget=True)
    assert course.changes == [(0, 5), (500, 1)], "200 s and 300 s"
    restless = UnderLoad(DEFAULT, lambda at, _: shared(20 if at < 60 else 2))
    for _ in range(20):
        restless.run(100, forget=True)
    assert restless.changes == [(0, 5)]


def test_two_processes_that_look_in_turn_want_the_same() -> None:
    def load(at: float, _: object) -> Seen:
        return shared(20 if 60 <= at < 600 else 2)

    one, two = UnderLoad(DEFAULT, load), UnderLoad(DEFAULT, load)
    for _ in range(240):
        for actor, other in ((one, two), (two, one)):
            actor.run(5)
            other.clock_s, other.record, other.counts = actor.clock_s, actor.record, actor.counts
    assert one.turns == 1
    assert [count for _, count in one.changes] == [5, 1]


def test_latency_that_follows_the_number_of_replicas_settles() -> None:
    """Each replica answers in 50 ms and one more for each call beside: 100 calls at once."""

    def load(at: float, record: object) -> Seen:
        ready = max(record.ready, 1)  # type: ignore[attr-defined]
        latency_ms = 50 + 400 / ready
        return Seen(latency_ms=lambda percentile: latency_ms)

    target = ScalingTarget(metric=Metric.LATENCY, value=150, percentile=95)
    course = UnderLoad(AutoscalePolicy(targets=[target]), load).run(3600)
    # 450 ms of 1: 3 wanted. Of 3: 183 ms, 4 wanted. Of 4: 150 ms.
    assert [count for _, count in course.changes] == [3, 4]


def test_office_hours_are_kept_over_a_night() -> None:
    office = ScalingSchedule(timezone="UTC", start="0 8 * * *", end="0 18 * * *", replicas=3)
    policy = AutoscalePolicy(schedules=[office])
    course = UnderLoad(policy, lambda at, _: Seen(), min_replicas=0).run(24 * 3600)
    hour = AT.hour
    until_six, until_eight = (18 - hour) * 3600, (32 - hour) * 3600
    assert course.changes == [(0, 3), (until_six, 0), (until_eight, 3)]


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.integers(1, 60), st.floats(0, 80)), min_size=1, max_size=12),
    st.integers(60, 600),
)
def test_the_direction_changes_no_more_often_than_the_windows_let_it(
    steps: list[tuple[int, float]], window_s: int
) -> None:
    """Whatever the load does: down again is a window after up, and never beyond the bounds."""
    down = ScalingBehavior(stabilization_s=window_s)
    levels = [level for looks, level in steps for _ in range(looks)]
    policy = DEFAULT.model_copy(update={"scale_down": down})
    length_s = 5 * len(levels)
    course = UnderLoad(policy, lambda at, _: shared(levels[int(at // 5)])).run(length_s)
    assert course.turns <= 2 * (length_s / window_s) + 1
    assert all(1 <= count <= 10 for _, count in course.counts)


@pytest.mark.parametrize("start_s", [0, 20, 120])
def test_replicas_that_take_their_time_to_start_are_not_asked_for_twice(start_s: float) -> None:
    course = UnderLoad(DEFAULT, lambda at, _: shared(20), start_s=start_s).run(600)
    assert course.changes == [(0, 5)]
