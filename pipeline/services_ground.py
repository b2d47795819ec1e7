"""The part of the composition root that every process of ours stands on."""

from __future__ import annotations

from contextlib import AsyncExitStack

from pipeline.adapters.bus import Bus
from pipeline.adapters.store import Store
from pipeline.core.outbox import Outbox
from pipeline.settings import Settings


async def open_ground(
    stack: AsyncExitStack, settings: Settings, name: str
) -> tuple[Store, Bus, Outbox]:
    """Connected until `stack` closes; the broker knows us as `modelyard-<name>`.

    Raises Misconfigured, BusUnavailable, StoreUnavailable.
    """
    store = await stack.enter_async_context(Store.open(settings.mongo_url, settings.mongo_database))
    bus = await stack.enter_async_context(
        Bus.open(settings.nats_url, name=f"modelyard-{name}", replicas=settings.nats_replicas)
    )
    outbox = await stack.enter_async_context(Outbox(store, bus))
    return store, bus, outbox
