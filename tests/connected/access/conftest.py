from __future__ import annotations

import pytest

from pipeline.access.service import Access
from pipeline.adapters.store.store import Store
from schemas.access import Principal
from tests.support.access import CHEAP, OTHER, PASSWORD, Clock, login, principal, records, settings


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def access(store: Store, clock: Clock) -> Access:
    access = Access(records(store, clock), settings(), CHEAP)
    await access.bootstrap()
    return access


@pytest.fixture
async def admin(access: Access) -> Principal:
    return await principal(access, await login(access))


@pytest.fixture
async def stranger(access: Access) -> Principal:
    """An administrator of another organisation."""
    await access.users.found(OTHER, "admin", PASSWORD)
    return await principal(access, await login(access, org=OTHER))
