"""The page about the registry directory: every example works and answers what the page says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.support import pages
from tests.support.archives.image_delivery import push
from tests.support.archives.images import busybox_image
from tests.support.registries.locked_registry import LockedRegistry
from tests.support.sources import ROOT
from tests.support.systems.services import Services
from tests.support.systems.yard import Yard

PAGE = ROOT / "docs" / "container-registry-db.md"


@pytest.fixture
async def locked(
    services: Services, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[str]:
    registry = LockedRegistry(tmp_path_factory.mktemp("locked"), port=services.registry().port)
    registry.locked = True
    await registry.start()
    yield registry.host
    await registry.stop()


@pytest.mark.timeout(pages.DEADLINE_S + 40)
async def test_every_example_works_and_answers_what_the_page_says(
    yard: Yard, locked: str, registry_host: str
) -> None:
    push(busybox_image(), registry_host, "team/model", "1")
    stands_for = {"127.0.0.1:5055": registry_host, "127.0.0.1:5050": locked}
    given = {"LOCKED": locked, "REGISTRY": registry_host}
    await asyncio.to_thread(pages.run, PAGE, yard.state.folder, stands_for, **given)
