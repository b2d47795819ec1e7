"""Everything about models, joined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.adapters.grpc_models import GrpcModels
from pipeline.adapters.http_guard import GuardedHttp
from pipeline.core import records
from pipeline.core.container_files import ContainerFiles
from pipeline.core.containers import Containers
from pipeline.core.delivery_secrets import DeliverySecrets
from pipeline.core.grpc_dialect import GrpcDialect
from pipeline.core.load_process import LoadProcess
from pipeline.core.logs import Logs
from pipeline.core.model_calls import ModelCalls
from pipeline.core.model_containers import ModelContainers
from pipeline.core.model_deliveries import ModelDeliveries
from pipeline.core.model_dialects import Dialect, RestDialect
from pipeline.core.model_endings import ModelEndings
from pipeline.core.model_files import ModelFiles
from pipeline.core.model_process import ModelProcess
from pipeline.core.model_starts import ModelStarts
from pipeline.core.model_versions import ModelVersions
from pipeline.core.model_writes import ModelWrites
from pipeline.core.models import Models
from pipeline.core.run_process import RunProcess
from pipeline.core.secrets import Secrets
from pipeline.core.serve_process import ServeProcess
from pipeline.rules.model_protocols import ModelProtocol
from pipeline.settings import Settings
from schemas.model import LoadTest, Serving, TrialRun

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
    delivery_secrets: DeliverySecrets
    loads: LoadProcess
    runs: RunProcess
    serves: ServeProcess
    endings: ModelEndings
    calls: ModelCalls

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
        deliveries = ModelDeliveries(store, outbox, writes, secrets, settings, clock)
        dialects: dict[ModelProtocol, Dialect] = {
            ModelProtocol.REST: RestDialect(http),
            ModelProtocol.GRPC: GrpcDialect(GrpcModels(), http),
        }
        running = ModelContainers(
            store, containers, logs, dialects, node_grace_s=settings.node_grace_s, clock=clock
        )
        starts = ModelStarts(running, grace_s=settings.stop_grace_s, clock=clock)
        files = ModelFiles(store, clock)
        made = _Made(store, outbox, writes, deliveries, running, starts, settings, clock)
        serves = _serves(made)
        return cls(
            models=Models(store, outbox, versions, clock),
            versions=versions,
            files=files,
            deliveries=deliveries,
            delivery_secrets=DeliverySecrets(store, secrets, writes, clock),
            loads=_loads(made),
            runs=_runs(made, files, ContainerFiles(bus)),
            serves=serves,
            endings=ModelEndings(
                store, writes, starts, stuck_after_s=settings.stuck_after_s, clock=clock
            ),
            calls=ModelCalls(
                writes,
                serves,
                running,
                output_max_bytes=settings.run_output_max_bytes,
                clock=clock,
            ),
        )


@dataclass(frozen=True, slots=True)
class _Made:
    """What every process of a model stands on."""

    store: Store
    outbox: Outbox
    writes: ModelWrites
    deliveries: ModelDeliveries
    containers: ModelContainers
    starts: ModelStarts
    settings: Settings
    clock: records.Clock


def _loads(made: _Made) -> LoadProcess:
    tests = ModelProcess[LoadTest](
        made.store,
        made.outbox,
        made.writes,
        "load",
        stuck_after_s=made.settings.stuck_after_s,
        clock=made.clock,
    )
    return LoadProcess(made.writes, tests, made.deliveries, made.starts, made.settings)


def _runs(made: _Made, files: ModelFiles, copies: ContainerFiles) -> RunProcess:
    trials = ModelProcess[TrialRun](
        made.store,
        made.outbox,
        made.writes,
        "run",
        stuck_after_s=made.settings.stuck_after_s,
        clock=made.clock,
    )
    return RunProcess(
        made.writes,
        trials,
        made.deliveries,
        files,
        made.containers,
        made.starts,
        copies,
        made.settings,
        made.clock,
    )


def _serves(made: _Made) -> ServeProcess:
    answering = ModelProcess[Serving](
        made.store,
        made.outbox,
        made.writes,
        "serve",
        stuck_after_s=made.settings.stuck_after_s,
        clock=made.clock,
    )
    return ServeProcess(
        made.store,
        made.writes,
        answering,
        made.deliveries,
        made.containers,
        made.starts,
        made.settings,
        made.clock,
    )
