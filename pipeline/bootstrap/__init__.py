"""The composition roots: what opens adapters and joins them to the resources."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing

from pipeline.adapters.bus.client import Bus
from pipeline.adapters.gateway.haproxy import Haproxy
from pipeline.adapters.http.resolving import Rules, SystemResolver
from pipeline.adapters.store.readings import Readings
from pipeline.adapters.store.store import Store
from pipeline.dead_letters.writer import Seal
from pipeline.gateway.measuring import Measuring
from pipeline.gateway.service import Gateway, listening_of
from pipeline.records.kernel import Records
from pipeline.records.messages import Outbox
from pipeline.secrets.vault import Vault
from pipeline.settings import Settings


def letter_seal(settings: Settings) -> Seal | None:
    """Keeps texts of messages that are given up; None without encryption keys."""
    keys = settings.encryption_keys.get_secret_value()
    return Vault.from_setting(keys) if keys else None


async def connect(stack: AsyncExitStack, settings: Settings, name: str) -> tuple[Records, Bus]:
    """Connected until `stack` closes; the broker knows us as `modelyard-<name>`.

    Raises Misconfigured, BusUnavailable, StoreUnavailable.
    """
    store = await stack.enter_async_context(Store.open(settings.mongo_url, settings.mongo_database))
    bus = await stack.enter_async_context(
        Bus.open(settings.nats_url, name=f"modelyard-{name}", replicas=settings.nats_replicas)
    )
    outbox = await stack.enter_async_context(Outbox(store, bus))
    return Records(store, outbox), bus


def registry_rules(settings: Settings) -> Rules:
    """For addresses of registries that users give."""
    return Rules(
        allow_local=settings.allow_private_addresses,
        local_hosts=frozenset({settings.registry.lower()}),
        plain_hosts=settings.insecure_hosts,
    )


@asynccontextmanager
async def open_gateway(settings: Settings) -> AsyncIterator[tuple[Gateway, Measuring]]:
    """What keeps the HAProxy in `settings.gateway_folder` in step, and what tells of its calls.

    Contacts nobody yet.

    Raises Misconfigured for a wrong address of the store.
    """
    haproxy = Haproxy(settings.gateway_folder)
    listening = listening_of(haproxy, settings)
    with closing(SystemResolver()) as resolver:
        async with Store.open(settings.mongo_url, settings.mongo_database) as store:
            measuring = Measuring(
                Readings(store),
                haproxy,
                name=f"{socket.gethostname()}/{settings.gateway_bind}",
                interval_s=settings.figures_interval_s,
            )
            yield Gateway(store, haproxy, listening, resolver), measuring
