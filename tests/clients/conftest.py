"""A system for clients that others wrote, and images for them to deploy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pipeline.stack.pieces.app import ApiPiece
from tests.connected.models.conftest import (
    api,
    api_key,
    door,
    models,
    models_system,
    no_containers_stay,
    well,
    worker,
)
from tests.support.archives.image_delivery import push
from tests.support.models.model_images import model_image
from tests.support.registries.locked_registry import LockedRegistry
from tests.support.systems.services import Services

__all__ = [
    "api",
    "api_key",
    "door",
    "models",
    "models_system",
    "no_containers_stay",
    "well",
    "worker",
]


@pytest.fixture(scope="session")
def load_wait_s() -> str:
    """Clients deploy side by side here, more than a small machine has cores for."""
    return "60"


@pytest.fixture(scope="package")
def root(api: ApiPiece) -> str:
    """Address of the server."""
    return f"http://127.0.0.1:{api.port}"


@pytest.fixture(scope="package")
async def locked(
    services: Services, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[str]:
    """Reference of a model behind USER and PASSWORD."""
    registry = LockedRegistry(tmp_path_factory.mktemp("locked"), port=services.registry().port)
    await registry.start()
    push(model_image(), registry.host, "team/model", "1")
    registry.locked = True
    await registry.restart()
    yield f"{registry.host}/team/model:1"
    await registry.stop()


@pytest.fixture
def sample(tmp_path: Path) -> str:
    """Path of an input to try a model with."""
    path = tmp_path / "sample.json"
    path.write_text('{"a": 1}')
    return str(path)
