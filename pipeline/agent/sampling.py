"""What containers on this node use: for whoever looks, and for deployments scaled by it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True, slots=True)
class Sample:
    """Of one container at one moment."""

    use: EngineUse
    before: EngineUse | None
    """Of the look before, if it was the same run's."""
    gpus: Sequence[GpuUse]

    @property
    def busy_cpus(self) -> float | None:
        use, before = self.use, self.before
        if before is None or use.at_ns <= before.at_ns or use.cpu_ns < before.cpu_ns:
            return None
        return (use.cpu_ns - before.cpu_ns) / (use.at_ns - before.at_ns)


class Sampling:
    """Publishes what containers use that are up, and percents (`Metric`) of replicas among them."""

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
        self._told: set[Source] = set()
        """What was not empty the last time."""
        self.latest: Sequence[tuple[Container, Mapping[str, float]]] = ()
        """Each that ran at the last look, with what it used then."""

    async def run(self) -> None:
        """Until cancelled. While engine or store are away, nothing is told."""
        while True:
            try:
                await self.sample()
            except YardError as error:
                log.warning("what containers use is not told: %s", error.message)
            await asyncio.sleep(self._interval_s)

    async def sample(self) -> None:
        """Once: one look at the engine for each container. Raises StoreUnavailable, EngineError."""
        containers = await self._containers()
        samples: dict[str, Sample] = {}
        for each in containers:
            if (sample := await self._look(each)) is not None:
                samples[each.uuid] = sample
        self._before = {uuid: sample.use for uuid, sample in samples.items()}
        used = {uuid: shown(sample) for uuid, sample in samples.items()}
        self.latest = [(each, used[each.uuid]) for each in containers if each.uuid in used]
        await self._publish(Source.CONTAINERS, used)
        scaled = await self._scaled(containers)
        percents = {
            each.uuid: figures(samples[each.uuid], each.spec.resources.most_cpus)
            if each.uuid in samples
            else {}
            for each in scaled
        }
        await self._publish(Source.NODE, percents)

    async def _publish(self, source: Source, found: Mapping[str, Mapping[str, Any]]) -> None:
        """Nothing of nobody is told once."""
        if found or source in self._told:
            await self._readings.publish(source, self._node, found)
        self._told = self._told | {source} if found else self._told - {source}

    async def _containers(self) -> list[Container]:
        up = [ContainerStatus.RUNNING.value, ContainerStatus.UNHEALTHY.value]
        where = {"node": self._node, "status": {"$in": up}}
        return await self._store.find(Container, org=EVERY_ORG, where=where, sort=())

    async def _scaled(self, containers: Sequence[Container]) -> list[Container]:
        """Replicas whose deployment is scaled by what they use."""
        replicas = [
            each
            for each in containers
            if each.deployment and each.status is ContainerStatus.RUNNING
        ]
        uuids = {each.deployment for each in replicas}
        if not uuids:
            return []
        ruled = {"_id": {"$in": sorted(uuids)}, "autoscale.cooldown_s": {"$gte": 0}}  # type: ignore[type-var]
        found = await self._store.find(Deployment, org=EVERY_ORG, where=ruled, sort=())
        scaled = {each.uuid for each in found if each.is_scaled_by(USES)}
        return [each for each in replicas if each.deployment in scaled]

    async def _look(self, container: Container) -> Sample | None:
        use = await self._engine.use(engine_plan.name_of(container.uuid, self._node))
        if use is None:
            return None
        gpus = await self._gpus(container.gpus) if container.gpus else ()
        return Sample(use, self._before.get(container.uuid), gpus)

    async def _gpus(self, gpus: Sequence[str]) -> Sequence[GpuUse]:
        try:
            return list(await self._devices.use(gpus))
        except GpusUnreadable as error:
            log.warning("%s", error.message)
            return ()


def shown(sample: Sample) -> dict[str, float]:
    """What `pipeline.containers.usage` tells."""
    use, gpus = sample.use, gpu_percents(sample.gpus)
    told = {
        "cpus": sample.busy_cpus,
        "memory_bytes": use.memory_bytes,
        "memory_limit_bytes": use.memory_limit_bytes,
        "network_received_bytes": use.network_received_bytes,
        "network_sent_bytes": use.network_sent_bytes,
        "gpu_percent": gpus.get(Metric.GPU),
        "gpu_memory_percent": gpus.get(Metric.GPU_MEMORY),
    }
    return {name: value for name, value in told.items() if value is not None}


def figures(sample: Sample, cpus: float) -> dict[str, float]:
    """Percents of what a replica may use. `cpus` that it may use; 0: all of the machine's.

    CPUs are told when there is something before, of the same run, to compare with.
    """
    use, busy = sample.use, sample.busy_cpus
    found = {str(Metric.MEMORY): 100 * use.memory_bytes / use.memory_limit_bytes}
    if busy is not None:
        found[str(Metric.CPU)] = 100 * busy / (cpus or use.cpus)
    return found | gpu_percents(sample.gpus)


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
