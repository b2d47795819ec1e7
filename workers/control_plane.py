"""What a worker does: the stages that answer messages, and the sweeps that no message asks for."""

from __future__ import annotations

import logging
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final, cast

from faststream import FastStream
from prometheus_client import CollectorRegistry

from pipeline.adapters.store.store import KINDS
from pipeline.bootstrap.control_plane import Services, prepare
from pipeline.dead_letters.writer import UnroutableCommands
from pipeline.own_registry.asked_registry import AskedRegistry
from pipeline.own_registry.collection import RegistryCollector
from pipeline.own_registry.fence import RegistryFence
from workers import app
from workers.app import Register, Sweep, alive
from workers.broker import YardBroker
from workers.stages import (
    builds,
    catalog,
    containers,
    deployments,
    images,
    logs,
    models,
    organisations,
    registries,
    webhooks,
)
from workers.stages.intake import Intakes
from workers.stages.webhooks import WebhookReaders

log = logging.getLogger(__name__)

STAGES: Final = (
    builds.register,
    catalog.register,
    containers.register,
    containers.register_nodes,
    deployments.register,
    images.register,
    logs.register,
    models.register,
    organisations.register,
    registries.register,
    webhooks.register,
)
MINUTE_S: Final = 60
FOLLOW_S: Final = 1
INTAKES_S: Final = 2.0
"""How often streams of new organisations are looked for."""
WEBHOOKS_S: Final = 1.0
"""How often new webhooks are looked for; they miss nothing meanwhile."""


async def serve(services: Services, registry: CollectorRegistry) -> None:
    """Work until SIGTERM or SIGINT. Streams, durables and indexes are made when absent."""
    await prepare(services)
    handling = app.build(
        services.bus,
        stages(services),
        registry=registry,
        drain_s=services.settings.drain_s,
        seal=services.dead_letters.seal,
    )
    taking_in = intakes(handling, services)
    handling.after_startup(taking_in.sweep)
    reading = webhook_readers(handling, services)
    await app.run(
        handling,
        [
            Sweep("intakes", INTAKES_S, taking_in.sweep),
            Sweep("webhook readers", WEBHOOKS_S, reading.sweep),
            *sweeps(services),
        ],
    )


def stages(services: Services) -> list[Register]:
    return [partial(register, services=services) for register in STAGES]


def intakes(handling: FastStream, services: Services) -> Intakes:
    """Of the organisations that speak to the broker themselves; call its `sweep` once it runs."""
    broker = cast(YardBroker, handling.broker)
    return Intakes(broker, services.bus)


def webhook_readers(handling: FastStream, services: Services) -> WebhookReaders:
    """As `intakes`, of the webhooks that are active."""
    return WebhookReaders(cast(YardBroker, handling.broker), services)


def sweeps(services: Services) -> list[Sweep]:
    """All of them, each with how often it runs."""
    settings, records, bus = services.settings, services.records, services.bus
    models, registries = services.models, services.registries
    every_s = settings.sweep_interval_s
    unclaimed = UnroutableCommands(
        bus, records.clock, age_s=MINUTE_S, seal=services.dead_letters.seal
    )
    return [
        Sweep("outbox", every_s, partial(send_leftovers, services)),
        Sweep("stuck", every_s, services.containers.overdue.sweep),
        Sweep("builds", every_s, services.builds.publishing.sweep),
        Sweep("trial runs", every_s, models.trial_runs.sweep),
        Sweep("load tests", every_s, models.load_tests.sweep),
        Sweep("delivery secrets", every_s, models.delivery_secrets.sweep),
        # Ends only when the store's changes are cut, and begins anew then.
        Sweep("freed capacity", FOLLOW_S, services.placement.waiting.follow),
        Sweep("known nodes", every_s, services.placement.view.check),
        Sweep("deployments", every_s, services.deployments.reconciler.sweep),
        Sweep("autoscaling", settings.autoscale_interval_s, services.deployments.autoscaler.sweep),
        Sweep("idle deployments", every_s, services.deployments.reconciler.sweep_idle),
        Sweep("settled deployments", MINUTE_S, services.deployments.reconciler.sweep_settled),
        Sweep("drained nodes", every_s, services.deployments.draining.sweep),
        Sweep("lost nodes", every_s, services.placement.lost_nodes.sweep),
        Sweep("deliveries", MINUTE_S, services.images.deliveries.sweep),
        Sweep("deleted images", every_s, services.images.removal.sweep),
        Sweep("unclaimed", MINUTE_S, unclaimed.sweep),
        Sweep("kept output", MINUTE_S, services.logs.retention.sweep),
        Sweep("leases", MINUTE_S, services.placement.stale_leases.sweep),
        Sweep("registries", every_s, registries.checks.sweep),
        Sweep("deleted registries", MINUTE_S, registries.service.purge),
        Sweep("webhook deliveries", every_s, services.webhooks.deliveries.sweep),
        Sweep("old webhook deliveries", MINUTE_S, services.webhooks.deliveries.purge),
        Sweep("audit", FOLLOW_S, services.watching.audit.sweep),
        Sweep("old audit entries", MINUTE_S, services.watching.audit.purge),
        Sweep("catalogue", every_s, services.catalog.validation.sweep),
        Sweep("deleted catalogue entries", MINUTE_S, services.catalog.service.purge),
        *registry_space(services),
        *alive(settings.alive_file, bus, records.store),
    ]


def registry_space(services: Services) -> list[Sweep]:
    """Gives back what nothing refers to in a registry whose folder workers have."""
    settings, store = services.settings, services.records.store
    if not settings.registry_folder:
        return []
    collector = RegistryCollector(
        AskedRegistry(Path(settings.registry_folder)),
        RegistryFence(store, settings.org),
        every=timedelta(seconds=settings.registry_collect_interval_s),
        report=log.info,
    )
    return [Sweep("registry space", FOLLOW_S, collector.run)]


async def send_leftovers(services: Services) -> None:
    """Publish what a crash, or a broker that was away, left in the records."""
    age = timedelta(seconds=services.settings.sweep_age_s)
    await services.records.outbox.sweep(KINDS, services.records.clock() - age)
