"""How many replicas a rule wants: single looks, worked out by hand, and what can never be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.deployments.autoscaling import Scaling, Seen, Wish, bounds, remembered, scale
from schemas.container import Desired
from schemas.deployment import (
    AutoscalePolicy,
    Deployment,
    Metric,
    ScalingBehavior,
    ScalingChange,
    ScalingSchedule,
    ScalingStep,
    ScalingTarget,
)
from schemas.states import DeploymentStatus as Status
from tests.support.records import AT, deployment

AT_ONCE = ScalingBehavior()


def rule(*targets: tuple[str, float], **values: Any) -> AutoscalePolicy:
    made = [ScalingTarget(metric=Metric(metric), value=value) for metric, value in targets]
    return AutoscalePolicy(targets=made, **{"scale_up": AT_ONCE, "scale_down": AT_ONCE} | values)


def a_deployment(policy: AutoscalePolicy | None, replicas: int = 2, **values: Any) -> Deployment:
    given = {"ready": replicas, "min_replicas": 1, "max_replicas": 20, "status": Status.DEPLOYED}
    return deployment(autoscale=policy, replicas=replicas, **given | values)


def shares(**totals: float) -> Seen:
    return Seen(shared={Metric(name): total for name, total in totals.items()})


def uses(**values: Sequence[float]) -> Seen:
    return Seen(each={Metric(name): each for name, each in values.items()})


def looked(record: Deployment, seen: Seen, wishes: Sequence[Wish] = ()) -> Scaling:
    scaling = scale(record, seen, wishes, AT)
    assert scaling is not None
    return scaling


@pytest.mark.parametrize(
    ("replicas", "total", "wanted"),
    [
        (2, 8.0, 2),  # 4 each: as it should be
        (2, 8.7, 2),  # 8.75 % above
        (2, 7.3, 2),  # 8.75 % below
        (2, 8.9, 3),  # 11 % above: 8.9 / 4
        (2, 24.0, 6),
        (6, 24.0, 6),
        (6, 8.0, 2),
        (3, 0.0, 1),  # nobody: min_replicas
        (2, 1000.0, 20),  # max_replicas
    ],
)
def test_what_replicas_share_is_divided_among_them(
    replicas: int, total: float, wanted: int
) -> None:
    record = a_deployment(rule(("concurrency", 4)), replicas)
    assert looked(record, shares(concurrency=total)).replicas == wanted


@pytest.mark.parametrize(
    ("replicas", "percents", "wanted"),
    [
        (2, [90, 90], 3),  # 1.5 × 2
        (3, [60, 60, 60], 3),
        (4, [30, 30, 30, 30], 2),
        (3, [90, 90], 3),  # the silent one taken for idle: 60 of 60, enough
        (4, [100, 100, 100], 5),  # (300 + 0) / 4 = 75 of 60: 1.25 × 4
        (4, [30, 30], 3),  # the silent ones taken for busy: 45 of 60: 0.75 × 4
        (4, [55, 55], 4),
    ],
)
def test_who_is_silent_is_taken_for_what_changes_least(
    replicas: int, percents: list[float], wanted: int
) -> None:
    record = a_deployment(rule(("cpu", 60)), replicas)
    assert looked(record, uses(cpu=percents)).replicas == wanted


@pytest.mark.parametrize(
    ("latency_ms", "ready", "wanted"),
    [(400.0, 2, 4), (200.0, 2, 2), (100.0, 2, 1), (0.0, 2, 1), (None, 2, 2), (400.0, 0, 2)],
)
def test_latency_is_that_of_the_replicas_that_answer(
    latency_ms: float | None, ready: int, wanted: int
) -> None:
    target = ScalingTarget(metric=Metric.LATENCY, value=200, percentile=95)
    policy = rule().model_copy(update={"targets": [target]})
    asked: list[int | None] = []

    def latency(percentile: int | None) -> float | None:
        asked.append(percentile)
        return latency_ms

    record = a_deployment(policy, 2, ready=ready)
    assert looked(record, Seen(latency_ms=latency)).replicas == wanted
    assert asked == [95]


def test_of_several_targets_the_one_that_wants_most_decides_and_is_named() -> None:
    record = a_deployment(rule(("concurrency", 4), ("throughput", 10)))
    scaling = looked(record, shares(concurrency=8, throughput=50))
    assert (scaling.replicas, scaling.why) == (5, "throughput is 25, its target 10")
    assert [(each.metric, each.value, each.replicas) for each in scaling.figures] == [
        ("concurrency", 4.0, 2),
        ("throughput", 25.0, 5),
    ]


def test_a_missing_figure_ends_nothing_and_lets_others_add() -> None:
    record = a_deployment(rule(("concurrency", 4), ("gpu", 50)), 4)
    fewer = looked(record, shares(concurrency=4))
    assert (fewer.replicas, fewer.why) == (4, "nobody tells gpu: nothing is ended")
    assert looked(record, shares(concurrency=40)).replicas == 10
    blind = looked(record, Seen())
    assert (blind.replicas, blind.why) == (4, "nobody tells concurrency, gpu")


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ({"autoscale": None}, Status.DEPLOYED),
        ({"autoscale": AutoscalePolicy(cooldown_s=1)}, Status.DEPLOYED),
        ({"desired": Desired.STOPPED}, Status.SCALED_DOWN),
        ({"desired": Desired.DELETED}, Status.DELETING),
        ({}, Status.FAILED),
        ({"replicas": 0, "min_replicas": 0}, Status.SCALED_DOWN),
    ],
)
def test_what_has_no_rule_or_is_not_up_is_left_alone(
    values: Mapping[str, Any], status: Status
) -> None:
    record = a_deployment(rule(("concurrency", 1)))
    changed = record.model_copy(update={**values, "status": status})
    assert scale(changed, shares(concurrency=100), (), AT) is None


def test_the_last_replica_of_one_that_ends_when_idle_is_not_ended_here() -> None:
    for values in (
        {"min_replicas": 0},
        {"autoscale": rule(("concurrency", 4), scale_to_zero=True)},
    ):
        record = a_deployment(rule(("concurrency", 4)), 3).model_copy(update=values)
        assert looked(record, shares(concurrency=0)).replicas == 1


# Steps and windows

GENTLE = ScalingBehavior(steps=[ScalingStep(kind="percent", value=25, period_s=60)])


def _gone(before: int, after: int, seconds: float) -> ScalingChange:
    return ScalingChange(at=AT - timedelta(seconds=seconds), before=before, after=after)


@pytest.mark.parametrize(
    ("replicas", "scalings", "wanted"),
    [
        (16, [], 12),
        (12, [_gone(16, 12, 59)], 12),  # a quarter of the 16 there were is gone
        (12, [_gone(16, 12, 60)], 9),
        (9, [], 6),  # 6.75
        (14, [_gone(16, 14, 30)], 12),
    ],
)
def test_steps_down_count_from_the_beginning_of_their_period(
    replicas: int, scalings: list[ScalingChange], wanted: int
) -> None:
    policy = rule(("concurrency", 4), scale_down=GENTLE)
    record = a_deployment(policy, replicas, scalings=scalings)
    assert looked(record, shares(concurrency=4)).replicas == wanted


@pytest.mark.parametrize(("select", "wanted"), [("max", 7), ("min", 4), ("disabled", 3)])
def test_select_says_which_step_counts(select: str, wanted: int) -> None:
    steps = [
        ScalingStep(kind="replicas", value=4, period_s=15),
        ScalingStep(kind="percent", value=10, period_s=15),  # of 3: 3.3, which is 4
    ]
    behavior = ScalingBehavior.model_validate({"select": select, "steps": steps})
    record = a_deployment(rule(("concurrency", 1), scale_up=behavior), 3)
    assert looked(record, shares(concurrency=12)).replicas == wanted


def test_only_changes_that_a_step_may_count_are_remembered() -> None:
    policy = rule(("concurrency", 4), scale_down=GENTLE)
    old, recent = _gone(3, 4, 61), _gone(4, 5, 59)
    record = a_deployment(policy, 5, scalings=[old, recent])
    scaling = looked(record, shares(concurrency=40))
    newest = ScalingChange(at=AT, before=5, after=10)
    assert remembered(record, scaling, AT) == [recent, newest]


# The clock

NIGHT = ScalingSchedule(timezone="UTC", start="0 20 * * *", end="0 6 * * *", replicas=5)


def test_a_schedule_is_a_lower_bound_within_its_window() -> None:
    record = a_deployment(rule(("concurrency", 4), schedules=[NIGHT]), 2)
    night = AT.replace(hour=21)
    scaling = scale(record, shares(concurrency=8), (), night)
    assert scaling is not None
    assert scaling.replicas == 5
    assert "schedule '0 20 * * *' to '0 6 * * *' (UTC) wants 5" in scaling.why
    busy = scale(
        record.model_copy(update={"replicas": 5, "ready": 5}), shares(concurrency=40), (), night
    )
    assert busy is not None
    assert busy.replicas == 10
    assert bounds(record, AT.replace(hour=12)).low == 1
    assert bounds(record.model_copy(update={"max_replicas": 3}), night).low == 3


def test_with_no_replicas_at_least_there_are_some_within_windows_alone() -> None:
    policy = AutoscalePolicy(schedules=[NIGHT])
    asleep = a_deployment(policy, 0, min_replicas=0, status=Status.SCALED_DOWN)
    woken = scale(asleep, Seen(), (), AT.replace(hour=20, minute=0, second=0))
    assert woken is not None
    assert woken.replicas == 5
    over = scale(a_deployment(policy, 5, min_replicas=0), Seen(), (), AT.replace(hour=6, minute=0))
    assert over is not None
    assert (over.replicas, over.why) == (0, "outside all schedules")


# What can never be

behaviors = st.builds(
    ScalingBehavior,
    stabilization_s=st.integers(0, 600),
    select=st.sampled_from(["max", "min", "disabled"]),
    steps=st.lists(
        st.builds(
            ScalingStep,
            kind=st.sampled_from(["replicas", "percent"]),
            value=st.integers(1, 200),
            period_s=st.integers(1, 1800),
        ),
        max_size=3,
    ),
)
records = st.builds(
    lambda low, more, count, ready, up, down, scalings: a_deployment(
        rule(("concurrency", 4), ("cpu", 50), scale_up=up, scale_down=down),
        count,
        ready=min(ready, count),
        min_replicas=low,
        max_replicas=max(low + more, 1),
        scalings=scalings,
    ),
    st.integers(0, 5),
    st.integers(0, 20),
    st.integers(1, 25),
    st.integers(0, 25),
    behaviors,
    behaviors,
    st.lists(
        st.builds(_gone, st.integers(0, 25), st.integers(0, 25), st.floats(0, 2000)), max_size=5
    ),
)
history = st.lists(
    st.builds(
        lambda ago, count: Wish(AT - timedelta(seconds=ago), count),
        st.floats(0, 700),
        st.integers(0, 25),
    ),
    max_size=10,
)
totals = st.none() | st.floats(0, 1000)
percents = st.lists(st.floats(0, 100), max_size=25)


def _seen(total: float | None, cpu: Sequence[float]) -> Seen:
    shared = {} if total is None else {Metric.CONCURRENCY: total}
    return Seen(shared=shared, each={Metric.CPU: cpu})


@given(records, history, totals, percents)
def test_the_number_stays_within_its_bounds_or_comes_back_to_them(
    record: Deployment, wishes: list[Wish], total: float | None, cpu: list[float]
) -> None:
    scaling = looked(record, _seen(total, cpu), wishes)
    assert max(record.min_replicas, 1) <= scaling.replicas <= record.max_replicas
    assert scaling.why
    assert scaling.wishes[-1].at == AT


@given(records, history, percents)
def test_without_all_figures_nothing_is_ended(
    record: Deployment, wishes: list[Wish], cpu: list[float]
) -> None:
    quiet = [wish for wish in wishes if wish.replicas >= record.replicas]
    scaling = looked(record, _seen(None, cpu), quiet)
    assert scaling.replicas >= min(record.replicas, record.max_replicas)


@given(records, history, st.floats(0, 500), st.floats(0, 500))
def test_more_load_never_wants_fewer(
    record: Deployment, wishes: list[Wish], total: float, more: float
) -> None:
    cpu = [50.0] * record.ready
    fewer = looked(record, _seen(total, cpu), wishes)
    assert looked(record, _seen(total + more, cpu), wishes).replicas >= fewer.replicas


@given(records, st.floats(0, 500))
def test_the_same_load_wants_no_more_once_it_has_what_it_wanted(
    record: Deployment, total: float
) -> None:
    count = min(max(record.replicas, record.min_replicas, 1), record.max_replicas)
    simple = record.model_copy(update={"autoscale": rule(("concurrency", 4)), "replicas": count})
    first = looked(simple, shares(concurrency=total)).replicas
    settled = simple.model_copy(update={"replicas": first})
    assert looked(settled, shares(concurrency=total)).replicas == first
