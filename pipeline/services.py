"""The composition root: the only place that opens adapters and joins them to the use cases.

A family of files, so that each process loads what it uses: this one for the API and the workers,
`services_agent` for node agents, `services_ground` for what all stand on.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from pipeline.adapters.bus import Bus
from pipeline.adapters.http_calls import HttpCalls
from pipeline.adapters.http_guard import GuardedHttp
from pipeline.adapters.http_names import Rules
from pipeline.adapters.registry import RegistryClient
from pipeline.adapters.store import Store
from pipeline.adapters.store_search import Search
from pipeline.core import records
from pipeline.core.access import Access
from pipeline.core.container_calls import ContainerCalls
from pipeline.core.containers import Containers
from pipeline.core.dead_letters import DeadLetters
from pipeline.core.event_hub import EventHub
from pipeline.core.images import Images
from pipeline.core.ingest import Ingest
from pipeline.core.leases import Leases
from pipeline.core.logs import Logs
from pipeline.core.model_containers import address_of
from pipeline.core.model_services import ModelServices
from pipeline.core.nodes import Nodes
from pipeline.core.outbox import Outbox
from pipeline.core.own_registry import OwnRegistry
from pipeline.core.placing import Placing
from pipeline.core.registry_services import RegistryServices
from pipeline.core.secret_logins import SecretLogins
from pipeline.core.secrets import Secrets
from pipeline.core.stuck import Stuck
from pipeline.core.validation import Validation
from pipeline.rules import platforms
from pipeline.services_ground import open_ground
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
    calls: ContainerCalls
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
        store, bus, outbox = await open_ground(stack, settings, name)
        search = await stack.enter_async_context(
            Search.open(
                settings.mongo_url, settings.mongo_database, answer_s=settings.search_time_s
            )
        )
        http = await stack.enter_async_context(GuardedHttp.open(_rules(settings)))
        nodes_http = await stack.enter_async_context(GuardedHttp.open(Rules(allow_local=True)))
        calls_http = await stack.enter_async_context(HttpCalls.open(Rules(allow_local=True)))
        ingest = await stack.enter_async_context(open_ingest(settings))
        yield _joined(
            _Ground(
                settings,
                store,
                search,
                bus,
                outbox,
                http,
                nodes_http,
                calls_http,
                ingest,
                records.now,
            )
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
    calls_http: HttpCalls
    """The same, for what users send them."""
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
    images = Images(store, outbox, secrets, OwnRegistry(store, settings.registry), clock)
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
        calls=_calls(ground, containers, model),
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


def _calls(ground: _Ground, containers: Containers, model: ModelServices) -> ContainerCalls:
    return ContainerCalls(
        containers,
        ground.calls_http,
        partial(address_of, ground.store),
        model.serves.holding,
        timeout_s=ground.settings.call_timeout_s,
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


def _rules(settings: Settings) -> Rules:
    return Rules(
        allow_local=settings.allow_private_addresses,
        local_hosts=frozenset({settings.registry.lower()}),
        plain_hosts=settings.insecure_hosts,
    )
