"""Makes the number of replicas follow the rule of their deployment. As many at once as there are.

All processes see the same figures and want the same; what one has written the others find done.
What a process remembers is its own: one that begins ends nothing until its windows are over.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from pipeline.adapters.store.readings import Reading, Readings, Source
from pipeline.adapters.store.store import EVERY_ORG
from pipeline.deployments.autoscaling import (
    Scaling,
    Seen,
    Wish,
    bounds,
    figures_of,
    remembered,
    scale,
)
from pipeline.deployments.decision import under_way
from pipeline.deployments.service import RECONCILE
from pipeline.gateway.metering import latency_ms
from pipeline.records.kernel import Change, Records
from pipeline.records.messages import command, event
from pipeline.records.sweeping import one_by_one
from schemas.container import Container, Desired
from schemas.deployment import USES, Deployment, Metric, ScalingLook
from schemas.states import ContainerStatus

FRESH_S: Final = 15.0
"""A gateway that said nothing for longer is silent; a node has its own interval on top."""
SILENT: Final = timedelta(minutes=5)
"""A gateway that said nothing for longer is gone."""
RULED: Final[Mapping[str, Any]] = {
    "autoscale.cooldown_s": {"$gte": 0},
    "desired": Desired.RUNNING.value,
}
"""Those with a rule."""


class Autoscaler:
    """One per process, since it remembers what it wished."""

    def __init__(self, records: Records, readings: Readings, *, samples_interval_s: float) -> None:
        self._records = records
        self._store = records.store
        self._readings = readings
        self._samples_fresh_s = FRESH_S + samples_interval_s
        self._wishes: dict[str, Sequence[Wish]] = {}

    async def sweep(self) -> None:
        """Look once at every deployment with a rule. One that fails holds up no other."""
        found = await self._store.find(Deployment, org=EVERY_ORG, where=RULED, sort=())
        ruled = [each for each in found if each.autoscale and each.autoscale.is_automatic]
        uuids = {each.uuid for each in ruled}
        self._wishes = {uuid: known for uuid, known in self._wishes.items() if uuid in uuids}
        seen = await self._seen(ruled)
        await one_by_one(ruled, lambda each: self._look(each, seen[each.uuid]))

    async def look(self, deployment: Deployment) -> ScalingLook | None:
        """What its rule sees and wants at this moment, windows and steps left out.

        None without a rule. Raises StoreUnavailable.
        """
        if deployment.autoscale is None or not deployment.autoscale.is_automatic:
            return None
        seen, at = await self._seen([deployment]), self._records.clock()
        scaling = scale(deployment, seen[deployment.uuid], (), at)
        if scaling is None:
            why = bounds(deployment, at).why or "it is not up"
            figures = figures_of(deployment, seen[deployment.uuid])
            return ScalingLook(at=at, replicas=deployment.replicas, why=why, figures=figures)
        wish = scaling.wishes[-1].replicas
        return ScalingLook(at=at, replicas=wish, why=scaling.why, figures=list(scaling.figures))

    async def _look(self, deployment: Deployment, seen: Seen) -> None:
        made: list[Scaling] = []

        def decide(now: Deployment, at: datetime) -> Change | None:
            made[:] = [each for each in [scale(now, seen, self._known(now), at)] if each]
            return _change(now, made[0], at) if made and made[0].replicas != now.replicas else None

        await self._records.amend(deployment, decide, actor="autoscaling")
        if made:
            self._wishes[deployment.uuid] = made[0].wishes
        else:
            self._wishes.pop(deployment.uuid, None)

    def _known(self, deployment: Deployment) -> Sequence[Wish]:
        return self._wishes.get(deployment.uuid, ())

    async def _seen(self, deployments: Collection[Deployment]) -> dict[str, Seen]:
        if not deployments:
            return {}
        gateways = await self._readings.recent(Source.GATEWAY, SILENT)
        uses = await self._uses([each for each in deployments if each.is_scaled_by(USES)])
        return {
            each.uuid: _seen_of(each, gateways, uses.get(each.uuid, {})) for each in deployments
        }

    async def _uses(
        self, deployments: Collection[Deployment]
    ) -> dict[str, Mapping[Metric, list[float]]]:
        """What agents measured of replicas that answer, by deployment and metric."""
        if not deployments:
            return {}
        where = {
            "deployment": {"$in": [each.uuid for each in deployments]},
            "status": ContainerStatus.RUNNING.value,
        }
        replicas = await self._store.find(Container, org=EVERY_ORG, where=where, sort=())
        names = {each.node for each in replicas if each.node}
        within = timedelta(seconds=self._samples_fresh_s)
        told: dict[str, Mapping[str, Any]] = {}
        for reading in await self._readings.recent(Source.NODE, within, names):
            told |= reading.figures
        found: dict[str, dict[Metric, list[float]]] = defaultdict(lambda: defaultdict(list))
        for replica in replicas:
            if replica.healthy_since is not None and replica.deployment is not None:
                for name, value in told.get(replica.uuid, {}).items():
                    found[replica.deployment][Metric(name)].append(value)
        return dict(found)


def _seen_of(
    deployment: Deployment, gateways: Sequence[Reading], uses: Mapping[Metric, list[float]]
) -> Seen:
    fresh = [each for each in gateways if each.age_s <= FRESH_S]
    if not fresh:
        return Seen(each=uses)
    told = [each.figures.get(deployment.slug, {}) for each in fresh]
    latencies: dict[int, int] = defaultdict(int)
    for figures in told:
        for bucket, count in figures.get("latencies", ()):
            latencies[bucket] += count
    shared = {
        metric: float(sum(figures.get(name, 0) for figures in told))
        for metric, name in _SHARED.items()
    }
    is_quiet = not any(shared.values())

    def latency(percentile: int | None) -> float | None:
        return 0.0 if is_quiet else latency_ms(latencies, percentile)

    return Seen(shared, latency, uses, is_partial=len(fresh) < len(gateways))


_SHARED: Final = {
    Metric.CONCURRENCY: "under_way",
    Metric.QUEUE_LENGTH: "queued",
    Metric.THROUGHPUT: "rate",
}


def _change(deployment: Deployment, scaling: Scaling, at: datetime) -> Change:
    look = ScalingLook(
        at=at, replicas=scaling.replicas, why=scaling.why, figures=list(scaling.figures)
    )
    told = look.model_dump(mode="json")
    values: dict[str, Any] = {
        "replicas": scaling.replicas,
        "scaling": told,
        "scalings": [each.model_dump() for each in remembered(deployment, scaling, at)],
    }
    status = under_way(deployment, values)
    facts = {
        "before": deployment.replicas,
        "after": scaling.replicas,
        "why": scaling.why,
        "figures": told["figures"],
    }
    return Change(
        values,
        status=None if status is deployment.status else status,
        reason=f"scaled from {deployment.replicas} to {scaling.replicas}: {scaling.why}",
        send=[event("scaled", **facts), command(RECONCILE)],
    )
