"""Deployment: replicas of one image that are kept answering, and by what rule their number moves.

The words of autoscaling are those of Kubernetes' HorizontalPodAutoscaler (autoscaling/v2) and of
KEDA's cron scaler: https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field, model_validator

from schemas.base import Annotations, Fault, Mark, Shape, StatefulRecord, Title, Transitions
from schemas.container import ContainerSpec, Desired
from schemas.states import DEPLOYMENT_TRANSITIONS, DeploymentStatus

MAX_REPLICAS = 1000
KEPT_TEMPLATES = 10
KEPT_ORDERS = 20


class Metric(StrEnum):
    """What a target can be about, with its unit."""

    CONCURRENCY = "concurrency"
    """Requests under way, per replica."""
    QUEUE_LENGTH = "queue_length"
    """Requests that wait at the gateway, per replica: for those with `max_calls`."""
    THROUGHPUT = "throughput"
    """Requests per second, per replica."""
    LATENCY = "latency"
    """Milliseconds from a request's arrival at the gateway to the head of its answer."""
    CPU = "cpu"
    """Percent of the CPUs that a replica may use, as the mean of the replicas."""
    MEMORY = "memory"
    """Percent of the memory that a replica may use, as the mean of the replicas."""
    GPU = "gpu"
    """Percent of the time in which the GPUs of a replica worked, as the mean of the replicas."""
    GPU_MEMORY = "gpu_memory"
    """Percent of the memory of a replica's GPUs, as the mean of the replicas."""


USES = frozenset({Metric.CPU, Metric.MEMORY, Metric.GPU, Metric.GPU_MEMORY})
"""What agents measure; all else is measured by gateways."""


class ScalingTarget(Shape):
    """As many replicas are wanted as bring `metric` to `value`. Of several targets the most."""

    metric: Metric
    value: float = Field(gt=0, le=1e9, allow_inf_nan=False)
    percentile: Literal[50, 75, 90, 95] | None = None
    """Of the latencies that count; None is their mean."""

    @model_validator(mode="after")
    def _require_latency(self) -> ScalingTarget:
        if self.percentile is not None and self.metric is not Metric.LATENCY:
            raise ValueError("only latency has a percentile")
        return self


class ScalingSchedule(Shape):
    """At least `replicas` from each `start` to the next `end`."""

    timezone: str = Field(max_length=64, examples=["Europe/Berlin"])
    """Of the IANA database."""
    start: str = Field(max_length=255, examples=["0 8 * * 1-5"])
    """A cron expression of five fields."""
    end: str = Field(max_length=255, examples=["0 18 * * 1-5"])
    replicas: int = Field(default=1, ge=1, le=MAX_REPLICAS)


class ScalingStep(Shape):
    """How much may change within each `period_s`."""

    kind: Literal["replicas", "percent"]
    value: int = Field(ge=1, le=MAX_REPLICAS)
    """Replicas, or percent of those there were at the beginning of the period."""
    period_s: int = Field(ge=1, le=1800)


class ScalingBehavior(Shape):
    """How fast the number moves in one direction."""

    stabilization_s: int = Field(default=0, ge=0, le=3600)
    """The number moves only as far as every wish within this window agrees to."""
    select: Literal["max", "min", "disabled"] = "max"
    """Which step counts: the one that allows most, or least; or none at all."""
    steps: list[ScalingStep] = Field(default_factory=list, max_length=10)
    """Empty: as fast as is wanted."""


_FAST: Final = ScalingBehavior(
    steps=[
        ScalingStep(kind="percent", value=100, period_s=15),
        ScalingStep(kind="replicas", value=4, period_s=15),
    ]
)
"""Kubernetes' default: to double, or four more, every 15 s."""
_CAREFUL: Final = ScalingBehavior(stabilization_s=300)
"""Kubernetes' default: all at once, when five minutes wanted no more."""


class AutoscalePolicy(Shape):
    """Without targets and schedules the number stays as it was set."""

    targets: list[ScalingTarget] = Field(default_factory=list, max_length=8)
    schedules: list[ScalingSchedule] = Field(default_factory=list, max_length=20)
    """With `min_replicas` 0 there are replicas within these windows alone."""
    scale_to_zero: bool = False
    """Also the last replicas end, whatever `min_replicas` says, when nobody calls them for
    `cooldown_s`; the next call brings one back."""
    cooldown_s: int = Field(default=300, ge=0, le=86400)
    """Without a call, before the last replicas end. Nothing to do with the steps before."""
    initial_cooldown_s: int = Field(default=0, ge=0, le=86400)
    """After it was made, before which `cooldown_s` does not begin."""
    scale_up: ScalingBehavior = _FAST
    """Left out, also in parts: at once, to double or by four every 15 s."""
    scale_down: ScalingBehavior = _CAREFUL
    """Left out, also in parts: as far as five minutes agree."""

    @model_validator(mode="before")
    @classmethod
    def _completed(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        known = {"scale_up": _FAST.model_dump(), "scale_down": _CAREFUL.model_dump()}
        parts = {name: given[name] for name in known if isinstance(given.get(name), dict)}
        return {**given, **{name: {**known[name], **part} for name, part in parts.items()}}

    @model_validator(mode="after")
    def _require_one_way_to_zero(self) -> AutoscalePolicy:
        if self.scale_to_zero and self.schedules:
            raise ValueError("scale_to_zero and schedules exclude each other")
        return self

    @property
    def is_automatic(self) -> bool:
        """The number is not its owner's to set."""
        return bool(self.targets or self.schedules)


class ScalingFigure(Shape):
    """What one target saw when it was looked at last."""

    metric: Metric
    percentile: int | None = None
    target: float
    value: float | None = None
    """In the unit of the metric; None: nobody said."""
    replicas: int | None = None
    """As many as this target alone would want."""


class ScalingLook(Shape):
    """What the last look at the figures came to."""

    at: datetime
    replicas: int
    """Wanted from then on."""
    why: str
    """The rule that decided, in words."""
    figures: list[ScalingFigure] = Field(default_factory=list)


class ScalingChange(Shape):
    """One change of the number: what `ScalingStep` counts."""

    at: datetime
    before: int
    after: int


class ReplicaSpec(ContainerSpec):
    """What each replica is. `name`, `engine_name` and `restart` are the deployment's to choose."""


class Owner(Shape):
    """The version of a model whose calls a deployment answers. It ends with that."""

    model: str
    """Identifier of the model."""
    version: str


class DeploymentSpec(Shape):
    """What a caller asks for."""

    name: Title
    template: ReplicaSpec
    min_replicas: int = Field(default=1, ge=0, le=MAX_REPLICAS)
    max_replicas: int = Field(default=1, ge=1, le=MAX_REPLICAS)
    max_calls: int = Field(default=0, ge=0, le=100_000)
    """That each gateway gives one replica at the same time; more wait there, at most 30 s. 0: as
    many as come."""
    in_place: bool = False
    """Let an old replica end first when a new one finds no room beside it."""
    rollout_timeout_s: int = Field(default=600, ge=10, le=86400)
    """Within which the replicas of a new template must be ready; else the last good one returns."""
    drain_s: float = Field(default=10, ge=0, le=3600)
    """For which a replica that is to end gets no new calls and finishes those that it has."""
    annotations: Annotated[Annotations, Mark.CONCEALED] = Field(default_factory=dict)
    idle_s: float = Field(default=900, ge=1, le=7 * 86400)
    """Without a call for this long the replicas end, with `min_replicas` 0; a call brings one."""
    autoscale: AutoscalePolicy | None = None
    """By what rule the number of replicas moves between the two; None: as its owner sets it."""


class DeploymentEdit(Shape):
    """What changes; None leaves it."""

    name: Title | None = None
    """Its address changes with it."""
    template: ReplicaSpec | None = None
    min_replicas: int | None = Field(default=None, ge=0, le=MAX_REPLICAS)
    max_replicas: int | None = Field(default=None, ge=1, le=MAX_REPLICAS)
    max_calls: int | None = Field(default=None, ge=0, le=100_000)
    in_place: bool | None = None
    rollout_timeout_s: int | None = Field(default=None, ge=10, le=86400)
    drain_s: float | None = Field(default=None, ge=0, le=3600)
    annotations: Annotated[Annotations | None, Mark.CONCEALED] = None
    idle_s: float | None = Field(default=None, ge=1, le=7 * 86400)
    autoscale: AutoscalePolicy | None = None
    """The whole rule; an empty one, `{}`, ends autoscaling."""


class Template(Shape):
    """What replicas are made of: two of the same `hash` are alike."""

    generation: int
    """Counts the templates of a deployment; one that returns keeps its number."""
    hash: str
    spec: ContainerSpec
    """`image` is the uuid of the image that was READY then."""
    made_at: datetime


class Slot(Shape):
    """A replica that there should be. Its container follows from the number."""

    number: int
    template: str
    """Hash of its template."""


class Deployment(StatefulRecord, collection="deployments", resource="deployment"):
    """DEPLOYING ⇄ DEPLOYED ⇄ DEGRADED, FAILED, SCALED_DOWN, DELETING → DELETED."""

    transitions: ClassVar[Transitions] = DEPLOYMENT_TRANSITIONS
    facts: ClassVar = ("name", "status", "reason", "generation", "replicas")

    status: DeploymentStatus = DeploymentStatus.DEPLOYING
    desired: Desired = Desired.RUNNING
    name: str
    template: Template
    history: list[Template] = Field(default_factory=list)
    """Earlier templates, newest first, the last of which replicas were ready among them."""
    good: str | None = None
    """Hash of the template whose replicas were all ready last."""
    blame: str | None = None
    """Why the newest template was given up, or rolled back; until the next one."""
    rollout_since: datetime
    """When the template, or the number of replicas, was asked for last."""
    rollout_timeout_s: int
    drain_s: float = 10
    idle_s: float = 900
    idle_at: datetime | None = None
    """When it counts as idle unless a call comes before; None when that ends nothing."""
    max_calls: int = 0
    in_place: bool
    min_replicas: int
    max_replicas: int
    replicas: int
    """Wanted now, from `min_replicas` to `max_replicas`."""
    slots: list[Slot] = Field(default_factory=list)
    next_number: int = 1
    ready: int = 0
    """Replicas that answered when it was last looked at."""
    failures: int = 0
    """Replicas that came to an end since the last were all ready."""
    replace_at: datetime | None = None
    """Before then no replica is made in place of one that came to its end."""
    orders: list[str] = Field(default_factory=list)
    """Ids of the last restarts and rollbacks that came by queue, newest first: a message that is
    delivered once more is done already."""
    created_by: str | None = None
    owner: Owner | None = None
    """None: it is its creator's to change. Else it follows the version, makes no more replicas when
    one could not be brought up until it is called again, and leaves no one waiting for a node
    longer than `rollout_timeout_s`."""
    fault: Fault | None = None
    """With an owner: why no replica could be brought up last."""
    annotations: Annotations = Field(default_factory=dict)
    autoscale: AutoscalePolicy | None = None
    scaling: ScalingLook | None = None
    """The last look of autoscaling that came to something new."""
    scalings: list[ScalingChange] = Field(default_factory=list)
    """What autoscaling changed lately, oldest first: as far back as a step may count."""

    @property
    def slug(self) -> str:
        """What the gateway calls it; a DNS label that no other deployment has.

        An uuid follows from a key that its owner chooses: with much less of it, somebody could look
        for a key that gives him the slug of another organisation's deployment.
        """
        name = re.sub("[^a-z0-9]+", "-", self.name.lower()).strip("-")[:40] or "deployment"
        return f"{name}-{self.uuid.replace('-', '')[:16]}"

    @property
    def generation(self) -> int:
        return self.template.generation

    def is_scaled_by(self, metrics: Collection[Metric]) -> bool:
        """One of its targets is about one of these."""
        targets = self.autoscale.targets if self.autoscale else []
        return any(target.metric in metrics for target in targets)

    @property
    def rests_after_s(self) -> float | None:
        """Without a call for this long its replicas end, until the next one; None: they stay."""
        rule = self.autoscale
        if rule is not None and rule.scale_to_zero:
            return rule.cooldown_s
        has_windows = rule is not None and bool(rule.schedules)
        return None if self.min_replicas or has_windows else self.idle_s

    def idle_when_used(self, at: datetime) -> datetime | None:
        """What `idle_at` becomes by a use; None when that is not worth a write.

        A little late, so that not every call writes.
        """
        rest_s = self.rests_after_s
        if rest_s is None or not self.wanted:
            return None
        if self.autoscale is not None:
            first_s = self.autoscale.initial_cooldown_s
            at = max(at, self.created_at + timedelta(seconds=first_s))
        is_late = self.idle_at is not None and self.idle_at >= at + timedelta(seconds=rest_s)
        return None if is_late else at + timedelta(seconds=rest_s * 1.1)

    @property
    def wanted(self) -> int:
        """Replicas, once what was asked for is done."""
        return self.replicas if self.desired is Desired.RUNNING else 0
