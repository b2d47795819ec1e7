"""One application and one worker for all tests of the door; each test has its organisation."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from pipeline.bootstrap.control_plane import Services as Yard
from schemas.node import GROUP_LABEL, Node
from tests.connected.registries.conftest import app, door, locked_host, org, other, worker, yard
from tests.support import records as made
from tests.support.registries.deployment_door import GROUP, Deploying
from tests.support.registries.registry_door import Door

__all__ = ["app", "door", "locked_host", "org", "other", "worker", "yard"]


@pytest.fixture(scope="module")
async def node(yard: Yard) -> AsyncIterator[Node]:
    """One that takes nothing."""
    node = made.node(
        f"n{uuid.uuid4().hex[:8]}",
        made.gpu("GPU-1", model="NVIDIA A100-SXM4-80GB"),
        at=yard.records.clock() + timedelta(days=1),
        org=yard.settings.org,
        cordoned=True,
        labels={GROUP_LABEL: GROUP},
    )
    await yard.records.store.insert(node)
    yield node
    await yard.records.store.delete(Node, node.uuid, org=node.org)


@pytest.fixture
async def deploying(door: Door, node: Node, locked_host: str) -> Deploying:
    return await Deploying.begun(door, locked_host)
