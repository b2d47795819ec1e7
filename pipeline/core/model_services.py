"""Everything about models, joined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.adapters.http_guard import GuardedHttp
from pipeline.core import records
from pipeline.core.container_files import ContainerFiles
from pipeline.core.containers import Containers
from pipeline.core.load_process import LoadProcess
from pipeline.core.logs import Logs
from pipeline.core.model_containers import ModelContainers
from pipeline.core.model_deliveries import ModelDeliveries
from pipeline.core.model_dialects import REST, RestDialect
from pipeline.core.model_files import ModelFiles
from pipeline.core.model_process import ModelProcess
from pipeline.core.model_starts import ModelStarts
from pipeline.core.model_versions import ModelVersions
from pipeline.core.model_writes import ModelWrites
from pipeline.core.models import Models
from pipeline.core.run_process import RunProcess
from pipeline.core.secrets import Secrets
from pipeline.settings import Settings
from schemas.model import LoadTest, TrialRun

if TYPE_CHECKING:
    from pipeline.adapters.bus import Bus
    from pipeline.adapters.store import Store
    from pipeline.core.outbox import Outbox


@dataclass(frozen=True, slots=True)
class ModelServices:
    """Built once per process; contacts nobody by being built."""

    models: Models
    versions: ModelVersions
    files: ModelFiles
    deliveries: ModelDeliveries
    loads: LoadProcess
    runs: RunProcess

    @classmethod
    def build(
        cls,
        store: Store,
        bus: Bus,
        outbox: Outbox,
        secrets: Secrets,
        containers: Containers,
        logs: Logs,
        http: GuardedHttp,
        settings: Settings,
        clock: records.Clock,
    ) -> ModelServices:
        """`http` must be allowed to contact nodes."""
        writes = ModelWrites(store, outbox, clock)
        versions = ModelVersions(store, outbox, writes, clock)
        deliveries = ModelDeliveries(store, outbox, writes, secrets, containers, settings, clock)
        dialects = {REST: RestDialect(http)}
        running = ModelContainers(
            store, containers, logs, dialects, node_grace_s=settings.node_grace_s, clock=clock
        )
        starts = ModelStarts(running, grace_s=settings.stop_grace_s, clock=clock)
        files = ModelFiles(store, clock)
        stuck_s = settings.stuck_after_s
        tests = ModelProcess[LoadTest](
            store, outbox, writes, "load", stuck_after_s=stuck_s, clock=clock
        )
        trials = ModelProcess[TrialRun](
            store, outbox, writes, "run", stuck_after_s=stuck_s, clock=clock
        )
        return cls(
            models=Models(store, outbox, versions, clock),
            versions=versions,
            files=files,
            deliveries=deliveries,
            loads=LoadProcess(writes, tests, deliveries, starts, settings),
            runs=RunProcess(
                writes,
                trials,
                deliveries,
                files,
                running,
                starts,
                ContainerFiles(bus),
                settings,
                clock,
            ),
        )
