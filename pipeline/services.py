"""The composition root: the only place that opens adapters and joins them to the use cases."""

from __future__ import annotations

import random
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from pipeline.adapters.bus import Bus
from pipeline.adapters.http_guard import GuardedHttp, Limits
from pipeline.adapters.http_names import Rules
from pipeline.adapters.registry import RegistryClient
from pipeline.adapters.store import Store
from pipeline.adapters.store_search import Search
from pipeline.core import records
from pipeline.core.access import Access
from pipeline.core.agent import Agent
from pipeline.core.containers import Containers
from pipeline.core.dead_letters import DeadLetters
from pipeline.core.event_hub import EventHub
from pipeline.core.images import Images
from pipeline.core.ingest import Ingest
from pipeline.core.leases import Leases
from pipeline.core.logs import Logs
from pipeline.core.model_services import ModelServices
from pipeline.core.nodes import Nodes
from pipeline.core.outbox import Outbox
from pipeline.core.placing import Placing
from pipeline.core.registration import node_id
from pipeline.core.registry_services import RegistryServices
from pipeline.core.secret_logins import SecretLogins
from pipeline.core.secrets import Secrets
from pipeline.core.stuck import Stuck
from pipeline.core.validation import Validation
from pipeline.rules import platforms
from pipeline.settings import Settings
from pipeline.uploading import Uploading, open_ingest


@dataclass(frozen=True, slots=True)
class Services:
    """What the API and the workers stand on. Opened by `open_services`."""

    settings: Settings
    clock: records.Clock
    store: Store
    bus: Bus
    outbox: Outbox
    registry: RegistryClient
    leases: Leases
    access: Access
    secrets: Secrets
    secret_logins: SecretLogins
    directory: RegistryServices
    images: Images
    validation: Validation
    containers: Containers
    placing: Placing
    nodes: Nodes
    stuck: Stuck
    logs: Logs
    dead_letters: DeadLetters
    model: ModelServices
    uploading: Uploading


@asynccontextmanager
async def open_services(settings: Settings, *, name: str) -> AsyncIterator[Services]:
    """Connect to the store, the broker and registries; `name` is how the broker knows us.

    Raises Misconfigured, BusUnavailable, StoreUnavailable.
    """
    async with AsyncExitStack() as stack:
        store, bus, outbox = await _foundation(stack, settings, name)
        search = await stack.enter_async_context(
            Search.open(settings.mongo_url, settings.mongo_database)
        )
        http = await stack.enter_async_context(GuardedHttp.open(_rules(settings)))
        nodes_http = await stack.enter_async_context(GuardedHttp.open(Rules(allow_local=True)))
        ingest = await stack.enter_async_context(open_ingest(settings))
        yield _joined(
            _Ground(settings, store, search, bus, outbox, http, nodes_http, ingest, records.now)
        )


@dataclass(frozen=True, slots=True)
class _Ground:
    """What is open: everything else is built on it."""

    settings: Settings
    store: Store
    search: Search
    bus: Bus
    outbox: Outbox
    http: GuardedHttp
    """For addresses that users give."""
    nodes_http: GuardedHttp
    """For containers of ours, on nodes of ours."""
    ingest: Ingest
    clock: records.Clock


def _joined(ground: _Ground) -> Services:
    settings, store = ground.settings, ground.store
    bus, outbox, http, clock = ground.bus, ground.outbox, ground.http, ground.clock
    registry = RegistryClient(
        http,
        host_platform=platforms.parse(settings.host_platform),
        document_max_bytes=settings.manifest_max_bytes,
    )
    leases = Leases(store)
    secrets = Secrets(store, outbox, settings, clock)
    images = Images(store, outbox, secrets, clock)
    containers = Containers(store, outbox, images, leases, clock)
    logs = Logs(bus, containers)
    model = ModelServices.build(
        store, bus, outbox, secrets, containers, logs, ground.nodes_http, settings, clock
    )
    grace_s = settings.node_grace_s
    return Services(
        settings=settings,
        clock=clock,
        store=store,
        bus=bus,
        outbox=outbox,
        registry=registry,
        leases=leases,
        access=Access(store, settings, clock),
        secrets=secrets,
        secret_logins=SecretLogins(store, outbox, secrets, registry, clock),
        directory=_directory(ground, secrets, registry),
        images=images,
        validation=Validation(
            store, outbox, registry, secrets, timeout_s=settings.validation_timeout_s, clock=clock
        ),
        containers=containers,
        placing=Placing(store, outbox, leases, node_grace_s=grace_s, clock=clock),
        nodes=Nodes(
            store,
            outbox,
            leases,
            grace_s=grace_s,
            sweep_interval_s=settings.sweep_interval_s,
            clock=clock,
        ),
        stuck=Stuck(store, outbox, settings, clock),
        logs=logs,
        dead_letters=DeadLetters(bus, home=settings.org_id),
        model=model,
        uploading=Uploading.build(store, outbox, ground.ingest, model.deliveries, settings, clock),
    )


def _directory(ground: _Ground, secrets: Secrets, client: RegistryClient) -> RegistryServices:
    return RegistryServices.build(
        ground.store,
        ground.search,
        ground.outbox,
        secrets,
        client,
        ground.settings,
        clock=ground.clock,
        jitter=random.Random().random,
    )


@asynccontextmanager
async def open_hub(services: Services) -> AsyncIterator[EventHub]:
    """The live event feed of one API process."""
    frames = services.settings.event_buffer_frames
    async with EventHub.open(services.bus, buffer_frames=frames) as hub:
        yield hub


@asynccontextmanager
async def open_agent(settings: Settings) -> AsyncIterator[Agent]:
    """The agent of this machine's engine. The node's identity follows from its name."""
    # Only agents talk to engines and devices: elsewhere these SDKs are memory without a use.
    from pipeline.adapters import gpus
    from pipeline.adapters.engine import DockerEngine

    name = settings.node_name or socket.gethostname()
    uuid = node_id(settings.installation, name)
    async with AsyncExitStack() as stack:
        store, bus, outbox = await _foundation(stack, settings, f"agent-{name}")
        engine = await stack.enter_async_context(DockerEngine.open(settings.docker_host))
        http = await stack.enter_async_context(GuardedHttp.open(Rules(allow_local=True)))
        agent = Agent.build(
            settings,
            store,
            bus,
            outbox,
            engine,
            gpus.select(settings),
            Secrets(store, outbox, settings, records.now),
            partial(_ask, http),
            name=name,
            uuid=uuid,
            clock=records.now,
        )
        stack.push_async_callback(agent.close)
        yield agent


async def _ask(http: GuardedHttp, url: str, timeout_s: float) -> int:
    """What a container's health endpoint answers. Its redirects are not followed."""
    limits = Limits(total_s=timeout_s, body_max_bytes=1024, redirects=0)
    return (await http.request("GET", url, limits=limits)).status


def _rules(settings: Settings) -> Rules:
    return Rules(
        allow_local=settings.allow_private_addresses,
        local_hosts=frozenset({settings.registry.lower()}),
        plain_hosts=settings.insecure_hosts,
    )


async def _foundation(
    stack: AsyncExitStack, settings: Settings, name: str
) -> tuple[Store, Bus, Outbox]:
    store = await stack.enter_async_context(Store.open(settings.mongo_url, settings.mongo_database))
    bus = await stack.enter_async_context(
        Bus.open(settings.nats_url, name=f"modelyard-{name}", replicas=settings.nats_replicas)
    )
    outbox = await stack.enter_async_context(Outbox(store, bus))
    return store, bus, outbox
