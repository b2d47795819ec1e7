"""Containers on a real engine, removed after the test that made them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest

from pipeline.adapters.engine.docker import DockerEngine
from pipeline.ports import LaunchPlan
from tests.support.archives.image_delivery import load
from tests.support.archives.images import HEALTHCHECK, busybox_image
from tests.support.engines.engine import HEALTHY_IMAGE, IMAGE, Launch


@pytest.fixture(scope="session")
def images_host(docker_host: str) -> str:
    """`docker_host`, with IMAGE and HEALTHY_IMAGE loaded."""
    load(busybox_image(), docker_host, IMAGE)
    load(busybox_image(healthcheck=HEALTHCHECK), docker_host, HEALTHY_IMAGE)
    return docker_host


@pytest.fixture
async def engine(images_host: str) -> AsyncIterator[DockerEngine]:
    async with DockerEngine.open(images_host) as engine:
        yield engine


@pytest.fixture
def run() -> str:
    """The label of everything that one test makes."""
    return uuid.uuid4().hex


@pytest.fixture
async def make(engine: DockerEngine, run: str) -> AsyncIterator[Launch]:
    """Creates a container of this test; all are removed after it."""

    async def make(**wanted: object) -> str:
        labels = {"test.run": run} | dict(wanted.pop("labels", {}))  # type: ignore[call-overload]
        plan = {"name": f"t-{uuid.uuid4().hex}", "image": IMAGE, "labels": labels} | wanted
        return await engine.create(LaunchPlan(**plan))  # type: ignore[arg-type]

    yield make
    for left in await engine.list({"test.run": run}):
        await engine.remove(left.id)


@pytest.fixture
def started(make: Launch, engine: DockerEngine) -> Launch:
    async def started(**wanted: object) -> str:
        id = await make(**wanted)
        await engine.start(id)
        return id

    return started
