"""What replicas on this node use, for deployments that are scaled by it; no other is looked at."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence

from pipeline.adapters.store.readings import Readings, Source
from pipeline.adapters.store.store import EVERY_ORG, Store
from pipeline.agent.machine import Devices
from pipeline.containers import engine_plan
from pipeline.errors import GpusUnreadable, YardError
from pipeline.ports import Engine, EngineUse, GpuUse
from schemas.container import Container
from schemas.deployment import USES, Deployment, Metric
from schemas.states import ContainerStatus

log = logging.getLogger(__name__)


class Sampling:
    """Publishes percents by container (`Metric`), of the replicas that are up."""

    def __init__(
        self, store: Store, engine: Engine, devices: Devices, *, node: str, interval_s: float
    ) -> None:
        self._store = store
        self._readings = Readings(store)
        self._engine = engine
        self._devices = devices
        self._node = node
        self._interval_s = interval_s
        self._before: dict[str, EngineUse] = {}
        """By container: what it uses of CPUs is what came since."""

    async def run(self) -> None:
        """Until cancelled. While engine or store are away, nothing is told."""
        while True:
            try:
                await self.sample()
            except YardError as error:
                log.warning("what replicas use is not told: %s", error.message)
            await asyncio.sleep(self._interval_s)

    async def sample(self) -> None:
        """Once: one look at the engine for each replica. Raises StoreUnavailable, EngineError."""
        replicas = await self._replicas()
        before, self._before = self._before, {}
        figures = {each.uuid: await self._figures(each, before.get(each.uuid)) for each in replicas}
        if figures or before:
            await self._readings.publish(Source.NODE, self._node, figures)

    async def _replicas(self) -> list[Container]:
        """Those that run here and whose deployment is scaled by what they use."""
        where = {
            "node": self._node,
            "status": ContainerStatus.RUNNING.value,
            "deployment": {"$gt": ""},
        }
        replicas = await self._store.find(Container, org=EVERY_ORG, where=where, sort=())
        uuids = {each.deployment for each in replicas}
        if not uuids:
            return []
        ruled = {"_id": {"$in": sorted(uuids)}, "autoscale.cooldown_s": {"$gte": 0}}  # type: ignore[type-var]
        found = await self._store.find(Deployment, org=EVERY_ORG, where=ruled, sort=())
        scaled = {each.uuid for each in found if each.is_scaled_by(USES)}
        return [each for each in replicas if each.deployment in scaled]

    async def _figures(self, replica: Container, before: EngineUse | None) -> dict[str, float]:
        use = await self._engine.use(engine_plan.name_of(replica.uuid, self._node))
        figures = {} if use is None else percents(use, before, replica.spec.resources.most_cpus)
        if use is not None:
            self._before[replica.uuid] = use
        if replica.gpus:
            figures |= await self._gpu_figures(replica.gpus)
        return figures

    async def _gpu_figures(self, gpus: Sequence[str]) -> dict[str, float]:
        try:
            uses = await self._devices.use(gpus)
        except GpusUnreadable as error:
            log.warning("%s", error.message)
            return {}
        return gpu_percents(uses)


def percents(use: EngineUse, before: EngineUse | None, cpus: float) -> dict[str, float]:
    """Of what it may use. `cpus` that it may use; 0: all of the machine's.

    CPUs are told when there is something before, of the same run, to compare with.
    """
    found = {str(Metric.MEMORY): 100 * use.memory_bytes / use.memory_limit_bytes}
    if before is not None and use.at_ns > before.at_ns and use.cpu_ns >= before.cpu_ns:
        busy = (use.cpu_ns - before.cpu_ns) / (use.at_ns - before.at_ns)
        found[str(Metric.CPU)] = 100 * busy / (cpus or use.cpus)
    return found


def gpu_percents(uses: Collection[GpuUse]) -> dict[str, float]:
    """Means of a replica's devices; what one does not tell is not told of the replica."""
    told = {
        Metric.GPU: [each.busy for each in uses if each.busy is not None],
        Metric.GPU_MEMORY: [each.memory for each in uses if each.memory is not None],
    }
    return {
        str(metric): sum(values) / len(values)
        for metric, values in told.items()
        if values and len(values) == len(uses)
    }
