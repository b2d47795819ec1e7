"""The composition root of the API and the workers: opens adapters, joins them to resources."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from pipeline.access.service import Access
from pipeline.adapters.bus.client import Bus
from pipeline.adapters.disk.upload_files import UploadFiles
from pipeline.adapters.http.guarded import GuardedHttp
from pipeline.adapters.http.resolving import Rules
from pipeline.adapters.http.streaming import StreamingHttp
from pipeline.adapters.registry.client import RegistryClient
from pipeline.adapters.registry.push import RegistryPush
from pipeline.adapters.registry.tokens import RegistryTokens
from pipeline.adapters.store.log_chunks import LogChunks
from pipeline.adapters.store.readings import Readings
from pipeline.adapters.store.search import Search
from pipeline.audit.service import AuditTrail
from pipeline.bootstrap import connect, letter_seal, registry_rules
from pipeline.bootstrap.answering import (
    ContainerServices,
    DeploymentServices,
    ModelServices,
    models,
)
from pipeline.bootstrap.placing import CatalogServices, PlacementServices, catalog, placement
from pipeline.builds.publishing import Publishing
from pipeline.builds.service import Builds
from pipeline.catalog import service as kept_catalog
from pipeline.catalog.gates import Gates
from pipeline.catalog.rows import CatalogRows
from pipeline.containers.agent_requests import EngineNames, Exec, Logs
from pipeline.containers.changes import OverdueContainers
from pipeline.containers.finding import ContainerFinder
from pipeline.containers.pulls import Pulls
from pipeline.containers.service import Containers
from pipeline.containers.usage import Usage
from pipeline.dead_letters.service import DeadLetters
from pipeline.events.timeline import Timelines
from pipeline.images import delivery_events
from pipeline.images.ingest.ingest import Ingest
from pipeline.images.ingest.service import Deliveries
from pipeline.images.lookup import ImageLookup
from pipeline.images.ownership import OwnRegistry
from pipeline.images.removal import ImageRemoval
from pipeline.images.service import Images
from pipeline.images.validation import Validation
from pipeline.logs.service import LogServices, StoredLogs
from pipeline.models.deliveries import ModelDeliveries
from pipeline.monitoring.service import Monitoring
from pipeline.nodes.leases import Leases
from pipeline.oci import platforms
from pipeline.organisations.service import Organisations
from pipeline.own_registry.fence import RegistryFence
from pipeline.records import messages
from pipeline.records.kernel import Records
from pipeline.registries.checks import RegistryChecks, RegistryProbe
from pipeline.registries.service import Registries, RegistryCatalogue
from pipeline.secrets import service as kept_secrets
from pipeline.secrets.login_check import SecretLogins
from pipeline.secrets.rotation import KeyRotation
from pipeline.secrets.service import Secrets
from pipeline.secrets.vault import Vault
from pipeline.settings import Settings
from pipeline.uploads.ingesting import UploadIngest
from pipeline.uploads.service import Uploads
from pipeline.webhooks import service as kept_webhooks
from pipeline.webhooks.deliveries import WebhookServices

log = logging.getLogger(__name__)

EVENT_VIEWS: Final = {delivery_events.VIEW: "api.models.views:event_facts"}
"""What doors add to events. By name, since nothing here may import a door; not entry points: an
installation whose metadata are older than its code would drop what a contract demands."""

SEALED: Final = (kept_secrets.SEALED, kept_webhooks.SEALED, kept_catalog.SEALED)
"""All that `modelyard secrets rotate-key` seals anew."""


@dataclass(frozen=True, slots=True)
class Services:
    """What the API and the workers stand on, by resource. Opened by `open_services`."""

    settings: Settings
    records: Records
    bus: Bus
    access: Access
    organisations: Organisations
    secrets: SecretServices
    registries: RegistryServices
    images: ImageServices
    builds: BuildServices
    uploads: UploadServices
    containers: ContainerServices
    logs: LogServices
    pulls: Pulls
    placement: PlacementServices
    models: ModelServices
    deployments: DeploymentServices
    webhooks: WebhookServices
    catalog: CatalogServices
    dead_letters: DeadLetters
    watching: WatchingServices


@dataclass(frozen=True, slots=True)
class SecretServices:
    service: Secrets
    logins: SecretLogins
    rotation: KeyRotation


@dataclass(frozen=True, slots=True)
class RegistryServices:
    service: Registries
    checks: RegistryChecks
    catalogue: RegistryCatalogue
    client: RegistryClient


@dataclass(frozen=True, slots=True)
class ImageServices:
    service: Images
    lookup: ImageLookup
    validation: Validation
    ingest: Ingest
    deliveries: Deliveries
    removal: ImageRemoval
    fence: RegistryFence


@dataclass(frozen=True, slots=True)
class BuildServices:
    service: Builds
    publishing: Publishing


@dataclass(frozen=True, slots=True)
class UploadServices:
    service: Uploads
    ingesting: UploadIngest


@dataclass(frozen=True, slots=True)
class WatchingServices:
    timelines: Timelines
    audit: AuditTrail
    monitoring: Monitoring


@asynccontextmanager
async def open_services(settings: Settings, *, name: str) -> AsyncIterator[Services]:
    """Connect to the store, the broker and registries; `name` is how the broker knows us.

    Raises Misconfigured, BusUnavailable, StoreUnavailable.
    """
    for view, place in EVENT_VIEWS.items():
        messages.register_view(view, place)
    async with AsyncExitStack() as stack:
        records, bus = await connect(stack, settings, name)
        url, database = settings.mongo_url, settings.mongo_database
        searching = Search.open(url, database, answer_s=settings.search_time_s)
        search = await stack.enter_async_context(searching)
        guarded = await stack.enter_async_context(GuardedHttp.open(registry_rules(settings)))
        client = _registry_client(guarded, settings)
        tokens = RegistryTokens(settings.registry, settings.registry_keys.get_secret_value())
        if not tokens.are_needed:
            log.warning("%s opens to everybody: MODELYARD_REGISTRY_KEYS is empty", tokens.registry)
        own = OwnRegistry(records.store, tokens, guarded)
        local = Rules(allow_local=True)  # For containers of ours, on nodes of ours.
        http = await stack.enter_async_context(GuardedHttp.open(local))
        calls = await stack.enter_async_context(StreamingHttp.open(local))
        ingest = await stack.enter_async_context(open_ingest(tokens, settings))
        leases = Leases(records.store)
        opened = secrets(records, client, settings)
        imaging = images(records, opened.service, client, own, ingest, settings)
        gates = Gates(records.store, CatalogRows(records, home=settings.org))
        running = containers(records, bus, imaging.service, leases, gates, settings)
        modelling, kept = models(records, bus, opened.service, own, running, http, calls, settings)
        yield Services(
            settings=settings,
            records=records,
            bus=bus,
            access=Access(records, settings),
            organisations=Organisations(records, home=settings.org, prepare=bus.prepare_org),
            secrets=opened,
            registries=registries(records, search, opened.service, client, settings),
            images=imaging,
            builds=builds(records, bus, opened.service, imaging.deliveries, settings),
            uploads=uploads(records, imaging.deliveries, modelling.deliveries, settings),
            containers=running,
            logs=LogServices.over(records, settings),
            pulls=Pulls(records.store, own),
            placement=placement(records, leases, gates, settings),
            models=modelling,
            deployments=kept,
            webhooks=WebhookServices.over(records, bus, guarded, settings),
            catalog=catalog(records, search, gates, imaging.service, opened.service, settings),
            dead_letters=DeadLetters(bus, home=settings.org, seal=letter_seal(settings)),
            watching=watching(records, bus, settings),
        )


async def prepare(services: Services) -> None:
    """What the control plane needs in store and broker. Idempotent, safe to run concurrently."""
    await services.records.store.prepare()
    await Readings(services.records.store).prepare()
    await LogChunks(services.records.store).prepare()
    await services.bus.prepare()
    await services.organisations.ensure()
    await services.models.earlier_serving.end()
    await services.catalog.rows.load()


def watching(records: Records, bus: Bus, settings: Settings) -> WatchingServices:
    return WatchingServices(
        Timelines(bus, records.store), AuditTrail(records, bus, settings), Monitoring(records, bus)
    )


def secrets(records: Records, client: RegistryClient, settings: Settings) -> SecretServices:
    service = Secrets(records, settings)
    vault = Vault.from_setting(settings.encryption_keys.get_secret_value())
    rotation = KeyRotation(records.store, vault, SEALED)
    return SecretServices(service, SecretLogins(records, service, client), rotation)


def registries(
    records: Records, search: Search, secrets: Secrets, client: RegistryClient, settings: Settings
) -> RegistryServices:
    service = Registries(records, search, secrets, settings)
    probe = RegistryProbe(secrets, client, records.clock)
    checks = RegistryChecks(records, probe, settings, jitter=random.Random().random)
    catalogue = RegistryCatalogue(service, client, probe)
    return RegistryServices(service, checks, catalogue, client)


def images(
    records: Records,
    secrets: Secrets,
    client: RegistryClient,
    own: OwnRegistry,
    ingest: Ingest,
    settings: Settings,
) -> ImageServices:
    """Built once per process; contacts nobody by being built."""
    fence = RegistryFence(records.store, settings.org, records.clock)
    return ImageServices(
        Images(records, secrets, own),
        ImageLookup(records.store, client, secrets, own),
        Validation(records, client, secrets, own, timeout_s=settings.validation_timeout_s),
        ingest,
        Deliveries(records, ingest, fence, settings),
        ImageRemoval(records, ingest.pushes, fence),
        fence,
    )


def builds(
    records: Records, bus: Bus, secrets: Secrets, deliveries: Deliveries, settings: Settings
) -> BuildServices:
    service = Builds(records, bus, secrets, settings)
    return BuildServices(service, Publishing(records, bus, deliveries, settings))


def uploads(
    records: Records, deliveries: Deliveries, models: ModelDeliveries, settings: Settings
) -> UploadServices:
    files = UploadFiles(settings.state / "uploads")
    service = Uploads(records, files, deliveries, models, settings)
    return UploadServices(service, UploadIngest(records, files, service, deliveries))


@asynccontextmanager
async def open_ingest(tokens: RegistryTokens, settings: Settings) -> AsyncIterator[Ingest]:
    """Connects to nothing yet. Closes once no archive is left half cleared away."""
    registry = RegistryPush(tokens, plain_hosts=settings.insecure_hosts)
    try:
        with Ingest.open(registry, settings) as ingest:
            yield ingest
    finally:
        await registry.close()


def containers(
    records: Records, bus: Bus, images: Images, leases: Leases, gates: Gates, settings: Settings
) -> ContainerServices:
    """Contacts nobody by being built."""
    service = Containers(records, images, leases, gates)
    return ContainerServices(
        service,
        ContainerFinder(records.store),
        EngineNames(bus),
        Logs(bus, records.store, StoredLogs(records.store)),
        Exec(bus, service),
        Usage(records.store, service),
        OverdueContainers(records, settings),
    )


def _registry_client(http: GuardedHttp, settings: Settings) -> RegistryClient:
    return RegistryClient(
        http,
        host_platform=platforms.parse(settings.host_platform),
        document_max_bytes=settings.manifest_max_bytes,
    )
