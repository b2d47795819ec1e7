"""A node over a real store, with an engine in memory, whose output is kept."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from pipeline.adapters.store.log_chunks import LogChunks
from pipeline.adapters.store.store import Store
from tests.support.engines.node_rig import NodeRig, node_rig


@pytest.fixture
async def rig(store: Store) -> AsyncIterator[NodeRig]:
    await LogChunks(store).prepare()
    async with node_rig(store) as rig:
        yield rig
