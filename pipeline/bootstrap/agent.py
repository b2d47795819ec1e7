"""The composition root of the agent beside one engine."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from pipeline import topology
from pipeline.adapters.bus.client import Bus
from pipeline.adapters.engine.docker import DockerEngine
from pipeline.adapters.gpus import inventory
from pipeline.adapters.grpc.client import OK, GrpcModels
from pipeline.adapters.http.guarded import GuardedHttp, Limits
from pipeline.adapters.http.resolving import Rules
from pipeline.adapters.registry.tokens import RegistryTokens
from pipeline.agent.assets import Assets
from pipeline.agent.builds.bases import Bases
from pipeline.agent.builds.contexts import Contexts, Fetch
from pipeline.agent.builds.service import Building
from pipeline.agent.container_care import Ask, ContainerCare, Probes, Restarts
from pipeline.agent.container_io import ContainerIO
from pipeline.agent.machine import Devices, HostPorts
from pipeline.agent.orders import Ending, Launching
from pipeline.agent.output import ContainerOutput
from pipeline.agent.pulling import Pulling
from pipeline.agent.reconciler import EngineReconciler, NodeContainers
from pipeline.agent.registration import Registration, node_id
from pipeline.agent.replacing import Replacing
from pipeline.agent.sampling import Sampling
from pipeline.agent.service import Agent, Watching
from pipeline.agent.volumes import NodeVolumes
from pipeline.bootstrap import connect, registry_rules
from pipeline.build_ports import BuildingEngine
from pipeline.images.ownership import OwnRegistry
from pipeline.logs.sending import LogBroker, LogSender
from pipeline.models.runtime.client import GrpcDialect, RestDialect
from pipeline.models.runtime.readiness import ask_status
from pipeline.nodes.leases import Leases
from pipeline.ports import GpuInventory
from pipeline.records.idempotency import new_id
from pipeline.records.kernel import Records
from pipeline.secrets.service import Secrets
from pipeline.settings import Settings

CONTEXT_IDLE_S: Final = 120
"""Longer than a sender may be silent (`upload_stall_s`)."""
PROBE_MAX_BYTES: Final = 1024


@asynccontextmanager
async def open_agent(settings: Settings) -> AsyncIterator[tuple[Agent, Bus]]:
    """The agent of this machine's engine, and the broker that its orders come from."""
    name = settings.node_name or socket.gethostname()
    async with AsyncExitStack() as stack:
        records, bus = await connect(stack, settings, f"agent-{name}")
        engine = await stack.enter_async_context(DockerEngine.open(settings.docker_host))
        http = await stack.enter_async_context(GuardedHttp.open(Rules(allow_local=True)))
        given = await stack.enter_async_context(GuardedHttp.open(asset_rules(settings)))
        registries = await stack.enter_async_context(GuardedHttp.open(registry_rules(settings)))
        outside = Outside(given, registries, partial(_context, bus))
        gpus, ask = inventory.select(settings), partial(_ask, http)
        agent = build_agent(settings, records, bus, engine, gpus, ask, outside, name=name)
        stack.push_async_callback(agent.close)
        yield agent, bus


def build_agent(
    settings: Settings,
    records: Records,
    broker: LogBroker,
    engine: BuildingEngine,
    gpus: GpuInventory,
    ask: Ask,
    outside: Outside,
    *,
    name: str,
) -> Agent:
    """Join the parts; contacts nobody.

    The node's identity follows from its `name`. Raises Misconfigured for wrong node labels.
    """
    uuid = node_id(settings.installation, name)
    devices = Devices(gpus, HostPorts(settings.container_bind))
    secrets = Secrets(records, settings)
    registration = Registration(records, engine, devices, secrets, settings, uuid=uuid, name=name)
    containers = NodeContainers(records, Leases(records.store), node=uuid)
    reconciler = EngineReconciler(engine, containers, settings)
    assets = Assets(outside.given, reconciler, settings)
    pulled, store = registration.images_changed, records.store
    pulling = Pulling(engine, store, secrets, containers, assets, settings=settings, pulled=pulled)
    volumes = NodeVolumes(reconciler, records)
    ending = Ending(reconciler, pulling, volumes)
    output = _output(reconciler, broker, settings)
    care = ContainerCare(reconciler, devices)
    replacing = Replacing(reconciler, volumes, store, ask)
    retry_s = settings.restart_backoff_s
    restarts = Restarts(care.restart, node=uuid, retry_s=retry_s, clock=records.clock)
    probes = Probes(care, ask, node=uuid)
    containers.followers += [restarts.follow, probes.follow]
    return Agent(
        settings=settings,
        uuid=uuid,
        registration=registration,
        launching=Launching(reconciler, pulling, volumes, devices, replacing, settings),
        ending=ending,
        volumes=volumes,
        watching=Watching(reconciler, ending, care, output),
        output=output,
        io=ContainerIO(reconciler, store),
        building=_building(engine, records, secrets, outside, settings, node=uuid),
        restarts=restarts,
        probes=probes,
        sampling=Sampling(
            records.store, engine, devices, node=uuid, interval_s=settings.samples_interval_s
        ),
    )


def _building(
    engine: BuildingEngine,
    records: Records,
    secrets: Secrets,
    outside: Outside,
    settings: Settings,
    *,
    node: str,
) -> Building:
    own = OwnRegistry(records.store, RegistryTokens(settings.registry, ""))
    bases = Bases(records.store, secrets, own, outside.registries, registry=settings.registry)
    contexts = Contexts(outside.given, outside.contexts, settings)
    return Building(engine, records, contexts, bases, settings, node=node)


@dataclass(frozen=True, slots=True)
class Outside:
    """What an agent reaches beyond its engine, store and broker."""

    given: GuardedHttp
    """Fetches what users give addresses of."""
    registries: GuardedHttp
    """Judges the addresses of registries."""
    contexts: Fetch


def _output(reconciler: EngineReconciler, broker: LogBroker, settings: Settings) -> ContainerOutput:
    sender = LogSender(broker, node=reconciler.node.uuid, session=new_id())
    labels, max_age_s = reconciler.node.labels, settings.log_max_age_s
    output = ContainerOutput(reconciler.engine, sender, labels, max_age_s=max_age_s)
    reconciler.before_removal = output.drained
    return output


def asset_rules(settings: Settings) -> Rules:
    """Where files for containers may come from."""
    return Rules(
        allow_local=False,
        local_hosts=settings.asset_hosts,
        local_networks=settings.asset_networks,
        setting="MODELYARD_ASSET_ALLOW",
    )


def _context(bus: Bus, build: str, asked: bytes) -> AsyncGenerator[bytes, None]:
    return bus.request_stream(topology.build_context(build), asked, idle_s=CONTEXT_IDLE_S)


async def _ask(http: GuardedHttp, url: str, timeout_s: float) -> int:
    """What a container's health endpoint answers. Its redirects are not followed.

    Raises YardError, also for a model that has not started.
    """
    where = urlsplit(url)
    match where.scheme:
        case "grpc":
            host, port, most = where.hostname or "", where.port or 0, PROBE_MAX_BYTES
            answer = await GrpcModels().call(
                host, port, where.path, b"", total_s=timeout_s, max_bytes=most
            )
            return 200 if answer.code == OK else 503
        case "model-rest" | "model-grpc":
            is_rest = where.scheme == "model-rest"
            dialect = RestDialect(http) if is_rest else GrpcDialect(GrpcModels(), http)
            return await ask_status(dialect, f"http://{where.netloc}", timeout_s)
    limits = Limits(total_s=timeout_s, body_max_bytes=PROBE_MAX_BYTES, redirects=0)
    return (await http.request("GET", url, limits=limits)).status
