"""Models and the deployments that answer their calls, joined: each asks the other."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.adapters.bus.client import Bus
from pipeline.adapters.grpc.client import GrpcModels
from pipeline.adapters.http.guarded import GuardedHttp
from pipeline.adapters.http.streaming import StreamingHttp
from pipeline.adapters.store.readings import Readings
from pipeline.containers.agent_requests import ContainerFiles, EngineNames, Exec, Logs
from pipeline.containers.changes import OverdueContainers
from pipeline.containers.finding import ContainerFinder
from pipeline.containers.service import Containers
from pipeline.containers.usage import Usage
from pipeline.deployments.activation import Activation
from pipeline.deployments.autoscaler import Autoscaler
from pipeline.deployments.draining import DrainingNodes
from pipeline.deployments.reconciler import DeploymentReconciler
from pipeline.deployments.service import Deployments
from pipeline.images.ownership import OwnRegistry
from pipeline.models.deliveries import DeliverySecrets, ModelDeliveries
from pipeline.models.jobs.calls import ModelCalls
from pipeline.models.jobs.serving import DeploymentOwners, EarlierServing, ServedVersions
from pipeline.models.jobs.trials import LoadTests, TrialRuns
from pipeline.models.runtime.client import Dialect, GrpcDialect, ModelClient, RestDialect
from pipeline.models.runtime.container_spec import ModelProtocol
from pipeline.models.runtime.passthrough import ContainerCalls
from pipeline.models.runtime.starts import ModelStarts
from pipeline.models.service import ModelFiles, Models, ModelVersions
from pipeline.records.kernel import Records
from pipeline.secrets.service import Secrets
from pipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class ContainerServices:
    service: Containers
    finder: ContainerFinder
    names: EngineNames
    logs: Logs
    exec: Exec
    usage: Usage
    overdue: OverdueContainers


@dataclass(frozen=True, slots=True)
class DeploymentServices:
    service: Deployments
    activation: Activation
    reconciler: DeploymentReconciler
    autoscaler: Autoscaler
    draining: DrainingNodes


@dataclass(frozen=True, slots=True)
class ModelServices:
    """Built once per process; contacts nobody by being built."""

    service: Models
    versions: ModelVersions
    files: ModelFiles
    deliveries: ModelDeliveries
    delivery_secrets: DeliverySecrets
    load_tests: LoadTests
    trial_runs: TrialRuns
    serving: ServedVersions
    earlier_serving: EarlierServing
    calls: ModelCalls
    passthrough: ContainerCalls


def models(
    records: Records,
    bus: Bus,
    secrets: Secrets,
    own: OwnRegistry,
    containers: ContainerServices,
    http: GuardedHttp,
    calls: StreamingHttp,
    settings: Settings,
) -> tuple[ModelServices, DeploymentServices]:
    """With deployments, which answer their calls. `http` and `calls` must reach nodes."""
    deploying = Deployments(records, containers.service)
    activation = Activation(records, calls, settings)
    versions, files = ModelVersions(records), ModelFiles(records)
    deliveries = ModelDeliveries(records, secrets, own, settings)
    dialects: dict[ModelProtocol, Dialect] = {ModelProtocol.REST: RestDialect(http)}
    dialects[ModelProtocol.GRPC] = GrpcDialect(GrpcModels(), http)
    client = ModelClient(records.store, containers.logs, dialects)
    starts = ModelStarts(records, containers.service, client, settings)
    serving = ServedVersions(records, deliveries, deploying, settings)
    owners = DeploymentOwners(records, deliveries, starts, client, settings)
    kept = _deployments(records, containers.service, deploying, activation, owners, settings)
    modelling = ModelServices(
        service=Models(records, versions),
        versions=versions,
        files=files,
        deliveries=deliveries,
        delivery_secrets=DeliverySecrets(records, secrets),
        load_tests=LoadTests(records, deliveries, starts, settings),
        trial_runs=TrialRuns(
            records, deliveries, starts, settings, files, ContainerFiles(bus), client
        ),
        serving=serving,
        earlier_serving=EarlierServing(records, starts),
        calls=ModelCalls(records, serving, activation, client, settings),
        passthrough=ContainerCalls(
            containers.service, calls, client, activation.holding, timeout_s=settings.call_timeout_s
        ),
    )
    return modelling, kept


def _deployments(
    records: Records,
    containers: Containers,
    service: Deployments,
    activation: Activation,
    owners: DeploymentOwners,
    settings: Settings,
) -> DeploymentServices:
    """Contacts nobody by being built."""
    reconciler = DeploymentReconciler(records, containers, owners)
    return DeploymentServices(
        service=service,
        activation=activation,
        reconciler=reconciler,
        draining=DrainingNodes(records, reconciler),
        autoscaler=Autoscaler(
            records, Readings(records.store), samples_interval_s=settings.samples_interval_s
        ),
    )
