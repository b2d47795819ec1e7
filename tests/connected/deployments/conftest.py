"""A node over a real store, and the deployments of its organisation."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from pipeline.adapters.store.store import Store
from tests.support.engines.deploying import Deploying
from tests.support.engines.node_rig import node_rig


@pytest.fixture
async def deploying(store: Store) -> AsyncIterator[Deploying]:
    async with node_rig(store, gpus="4xH100-80GB") as rig:
        yield Deploying(rig)
