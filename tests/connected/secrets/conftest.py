from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from pipeline.adapters.bus.client import Bus
from pipeline.adapters.store.store import Store
from pipeline.records.kernel import Records
from pipeline.records.messages import Outbox
from pipeline.secrets.service import Secrets
from tests.support.access import Clock
from tests.support.secrets import settings


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def outbox(store: Store, bus: Bus) -> AsyncIterator[Outbox]:
    async with Outbox(store, bus) as outbox:
        yield outbox


@pytest.fixture
def secrets(store: Store, outbox: Outbox, clock: Clock) -> Secrets:
    return Secrets(Records(store, outbox, clock), settings())
