"""How many replicas a rule wants: pure. Kubernetes' HorizontalPodAutoscaler is the model.

The ratio of figure and target with a tolerance, the most of several targets, missing figures taken
for the worse, windows of stabilisation, steps within periods. Schedules are those of KEDA's cron
scaler: within a window at least so many.
https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/ and
https://keda.sh/docs/latest/scalers/cron/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil, floor
from typing import Final

from pipeline.deployments.schedules import is_open
from schemas.container import Desired
from schemas.deployment import (
    AutoscalePolicy,
    Deployment,
    Metric,
    ScalingBehavior,
    ScalingChange,
    ScalingFigure,
    ScalingStep,
    ScalingTarget,
)
from schemas.states import DeploymentStatus

TOLERANCE: Final = 0.1
"""A figure this near to its target, as a part of it, changes nothing."""
LEAST_STEPS_S: Final = 60
SHARED: Final = frozenset({Metric.CONCURRENCY, Metric.QUEUE_LENGTH, Metric.THROUGHPUT})
"""Figures of all replicas together, which more of them share."""
SCALED: Final = frozenset(
    {DeploymentStatus.DEPLOYING, DeploymentStatus.DEPLOYED, DeploymentStatus.DEGRADED}
)


@dataclass(frozen=True, slots=True)
class Seen:
    """The figures of one moment. What nobody said is not there."""

    shared: Mapping[Metric, float] = field(default_factory=dict)
    """Of all gateways together, by the metrics in `SHARED`."""
    latency_ms: Callable[[int | None], float | None] = lambda percentile: None
    """By percentile, or the mean; 0 when there were no calls."""
    each: Mapping[Metric, Sequence[float]] = field(default_factory=dict)
    """Percents, one of each replica that told: of `cpu`, `memory`, `gpu`, `gpu_memory`."""
    is_partial: bool = False
    """There may be calls that nobody tells of."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a look alone would have, before windows and steps."""

    at: datetime
    replicas: int


@dataclass(frozen=True, slots=True)
class Scaling:
    """What a look comes to."""

    replicas: int
    why: str
    figures: Sequence[ScalingFigure]
    wishes: Sequence[Wish]
    """To be given to the next look."""


@dataclass(frozen=True, slots=True)
class Bounds:
    low: int
    high: int
    why: str | None = None
    """The schedule that makes them, in words."""


def bounds(deployment: Deployment, now: datetime) -> Bounds:
    """Between which the number moves now. With `min_replicas` 0 there is none outside windows."""
    low, high = deployment.min_replicas, deployment.max_replicas
    schedules = deployment.autoscale.schedules if deployment.autoscale else []
    opened = [each for each in schedules if is_open(each, now)]
    if opened:
        most = max(opened, key=lambda each: each.replicas)
        why = f"schedule {most.start!r} to {most.end!r} ({most.timezone}) wants {most.replicas}"
        return Bounds(min(max(low, most.replicas), high), high, why)
    if schedules and low == 0:
        return Bounds(0, 0, "outside all schedules")
    return Bounds(low, high)


def scale(
    deployment: Deployment, seen: Seen, wishes: Sequence[Wish], now: datetime
) -> Scaling | None:
    """As many replicas as are wanted from now on, perhaps as many as there are.

    `wishes` come from the look before; without any, what there is counts as one, and is held until
    the windows are over. None where there is nothing to decide: no rule, stopped,
    failed, or ended because nobody calls.
    """
    policy = deployment.autoscale
    is_up = deployment.desired is Desired.RUNNING and deployment.status in SCALED
    is_asleep = deployment.replicas == 0 and deployment.rests_after_s is not None
    wakes = deployment.desired is Desired.RUNNING and bool(policy and policy.schedules)
    if policy is None or not policy.is_automatic or is_asleep or not (is_up or wakes):
        return None
    return _Look(deployment, policy, seen, now).scaling(wishes)


def figures_of(deployment: Deployment, seen: Seen) -> list[ScalingFigure]:
    """What each target sees, and would have if it were alone."""
    targets = deployment.autoscale.targets if deployment.autoscale else []
    return [_figure(target, deployment, seen) for target in targets]


def remembered(deployment: Deployment, scaling: Scaling, now: datetime) -> list[ScalingChange]:
    """The changes that steps may count, with this one."""
    policy = deployment.autoscale or AutoscalePolicy()
    steps = [*policy.scale_up.steps, *policy.scale_down.steps]
    period_s = max([LEAST_STEPS_S, *(step.period_s for step in steps)])
    since = now - timedelta(seconds=period_s)
    change = ScalingChange(at=now, before=deployment.replicas, after=scaling.replicas)
    return [*(each for each in deployment.scalings if each.at > since), change]


class _Look:
    """One look at a deployment whose number is to be found."""

    def __init__(
        self, deployment: Deployment, policy: AutoscalePolicy, seen: Seen, now: datetime
    ) -> None:
        self.deployment = deployment
        self.policy = policy
        self.now = now
        self.current = deployment.replicas
        self.bounds = bounds(deployment, now)
        self.figures = figures_of(deployment, seen)
        self.is_partial = seen.is_partial

    def scaling(self, wishes: Sequence[Wish]) -> Scaling:
        wanted, why = self._bounded(*self._wanted())
        known = [*(wishes or [Wish(self.now, self.current)]), Wish(self.now, wanted)]
        if self.current < self.bounds.low or self.current > self.bounds.high:
            wanted = min(max(self.current, self.bounds.low), self.bounds.high)
        else:
            wanted, why = self._stepwise(*self._stabilised(wanted, known, why))
        windows = (self.policy.scale_up.stabilization_s, self.policy.scale_down.stabilization_s)
        return Scaling(wanted, why, self.figures, self._within(known, max(windows)))

    def _wanted(self) -> tuple[int, str]:
        """By the targets alone: the most that one wants; less only when all figures are known."""
        if not self.figures:
            return self.bounds.low, self.bounds.why or "outside all schedules"
        known = [(each.replicas, each) for each in self.figures if each.replicas is not None]
        missing = [each for each in self.figures if each.replicas is None]
        if not known:
            return self.current, f"nobody tells {_list(missing)}"
        most, decisive = max(known, key=lambda pair: pair[0])
        if most < self.current and missing:
            return self.current, f"nobody tells {_list(missing)}: nothing is ended"
        if most < self.current and self.is_partial:
            return self.current, "a gateway is silent: nothing is ended"
        return most, _told(decisive)

    def _bounded(self, wanted: int, why: str) -> tuple[int, str]:
        low, high = self.bounds.low, self.bounds.high
        if self.deployment.rests_after_s is not None:
            low = max(low, 1)
        if wanted < low:
            least = self.bounds.why or f"min_replicas is {low}"
            return low, f"{why}; {least}"
        if wanted > high:
            most = self.bounds.why if high == 0 else f"max_replicas is {high}"
            return high, f"{why}; {most}"
        return wanted, why

    def _stabilised(self, wanted: int, wishes: Sequence[Wish], why: str) -> tuple[int, str]:
        up_s, down_s = self.policy.scale_up.stabilization_s, self.policy.scale_down.stabilization_s
        least = min(each.replicas for each in self._within(wishes, up_s))
        most = max(each.replicas for each in self._within(wishes, down_s))
        if not least <= self.current <= most:
            return min(max(self.current, least), most), why
        if wanted == self.current:
            return wanted, why
        window_s = up_s if wanted > self.current else down_s
        return self.current, f"{why}; not so for all of the last {window_s} s"

    def _within(self, wishes: Sequence[Wish], window_s: int) -> list[Wish]:
        """With the newest in any case."""
        since = self.now - timedelta(seconds=window_s)
        return [*(each for each in wishes[:-1] if each.at > since), wishes[-1]]

    def _stepwise(self, wanted: int, why: str) -> tuple[int, str]:
        if wanted == self.current:
            return wanted, why
        is_up = wanted > self.current
        behavior = self.policy.scale_up if is_up else self.policy.scale_down
        way = "scale_up" if is_up else "scale_down"
        if behavior.select == "disabled":
            return self.current, f"{why}; {way} is disabled"
        limit = self._limit(behavior, is_up)
        if limit is None or (wanted <= limit if is_up else wanted >= limit):
            return wanted, why
        return limit, f"{why}; steps of {way} allow {limit} now"

    def _limit(self, behavior: ScalingBehavior, is_up: bool) -> int | None:
        """None without steps. Never on the other side of what there is."""
        limits = [self._limit_of(step, is_up) for step in behavior.steps]
        if not limits:
            return None
        is_far = (behavior.select == "max") == is_up
        limit = max(limits) if is_far else min(limits)
        return max(limit, self.current) if is_up else min(limit, self.current)

    def _limit_of(self, step: ScalingStep, is_up: bool) -> int:
        since = self.now - timedelta(seconds=step.period_s)
        changes = (each for each in self.deployment.scalings if each.at > since)
        began = self.current - sum(each.after - each.before for each in changes)
        if step.kind == "replicas":
            return began + step.value if is_up else began - step.value
        part = step.value / 100
        return ceil(began * (1 + part)) if is_up else max(floor(began * (1 - part)), 0)


def _figure(target: ScalingTarget, deployment: Deployment, seen: Seen) -> ScalingFigure:
    if target.metric in SHARED:
        value, replicas = _by_share(target, deployment, seen.shared.get(target.metric))
    elif target.metric is Metric.LATENCY:
        value = seen.latency_ms(target.percentile)
        replicas = _by_ratio(value, target.value, deployment.ready, deployment.replicas)
    else:
        value, replicas = _by_use(target, deployment, seen.each.get(target.metric, ()))
    return ScalingFigure(
        metric=target.metric,
        percentile=target.percentile,
        target=target.value,
        value=None if value is None else round(value, 3),
        replicas=replicas,
    )


def _by_share(
    target: ScalingTarget, deployment: Deployment, total: float | None
) -> tuple[float | None, int | None]:
    """However many share it, the number that it takes is the same."""
    if total is None:
        return None, None
    share = total / max(deployment.replicas, 1)
    if deployment.replicas and _is_near(share / target.value):
        return share, deployment.replicas
    return share, ceil(total / target.value - 1e-9)


def _by_ratio(value: float | None, target: float, ready: int, current: int) -> int | None:
    """Of a figure that does not say how many it is of: that of those who answer."""
    if value is None or not ready:
        return None
    ratio = value / target
    return current if _is_near(ratio) else ceil(ratio * ready - 1e-9)


def _by_use(
    target: ScalingTarget, deployment: Deployment, values: Sequence[float]
) -> tuple[float | None, int | None]:
    """Who does not tell is taken for idle if more were wanted, else for as busy as is right."""
    if not values:
        return None, None
    current, mean = deployment.replicas, sum(values) / len(values)
    ratio = mean / target.value
    if _is_near(ratio):
        return mean, current
    missing = max(deployment.ready - len(values), 0)
    if not missing:
        return mean, ceil(ratio * len(values) - 1e-9)
    assumed = 0.0 if ratio > 1 else target.value
    count = len(values) + missing
    careful = (sum(values) + missing * assumed) / count / target.value
    if _is_near(careful) or (careful > 1) is not (ratio > 1):
        return mean, current
    wanted = ceil(careful * count - 1e-9)
    return mean, current if (wanted > current) is not (ratio > 1) else wanted


def _is_near(ratio: float) -> bool:
    return abs(1 - ratio) <= TOLERANCE + 1e-9


def _told(figure: ScalingFigure) -> str:
    return f"{_name(figure)} is {figure.value:g}, its target {figure.target:g}"


def _name(figure: ScalingFigure) -> str:
    return f"{figure.metric} p{figure.percentile}" if figure.percentile else str(figure.metric)


def _list(figures: Iterable[ScalingFigure]) -> str:
    return ", ".join(map(_name, figures))
