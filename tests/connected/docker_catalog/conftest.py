"""One application and one worker for all tests of the door; each test has its organisation."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI

from pipeline.bootstrap.control_plane import Services as Yard
from schemas.access import Role
from tests.connected.registries.conftest import app, locked_host, org, worker, yard
from tests.support.registries.catalog_door import CatalogDoor, catalog_door
from tests.support.tenants import an_organisation

__all__ = ["app", "locked_host", "org", "worker", "yard"]


@pytest.fixture
async def door(app: FastAPI, yard: Yard, worker: None, org: str) -> AsyncIterator[CatalogDoor]:
    """Of staff."""
    async with catalog_door(app, org) as found:
        yield found


@pytest.fixture
async def others(app: FastAPI, yard: Yard, worker: None) -> AsyncIterator[CatalogDoor]:
    """Of staff of another organisation."""
    async with catalog_door(app, await an_organisation(yard)) as found:
        yield found


@pytest.fixture
async def reader(app: FastAPI, door: CatalogDoor) -> AsyncIterator[CatalogDoor]:
    """Of a member of the same organisation, who is no staff."""
    async with catalog_door(app, door.org, Role.MEMBER) as found:
        yield found


@pytest.fixture
async def node_door(app: FastAPI, door: CatalogDoor) -> AsyncIterator[CatalogDoor]:
    """With the token of a node."""
    async with catalog_door(app, door.org, Role.NODE) as found:
        yield found
