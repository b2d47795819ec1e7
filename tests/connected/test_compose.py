"""compose.yaml brought up for real, from images made of this host's programs."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from pipeline.stack.ports import any_free
from tests.support.commands import run
from tests.support.waiting import eventually

PORTS = ("API", "NATS", "MONGO", "REGISTRY")


class Project:
    """One compose project with names and ports of its own."""

    def __init__(self, docker_host: str, images: dict[str, str]) -> None:
        rng = random.Random()
        self.name = f"yard{uuid.uuid4().hex[:8]}"
        self.ports = {name: any_free(rng) for name in PORTS}
        self.env = images | {
            "DOCKER_HOST": docker_host,
            "COMPOSE_PROJECT_NAME": self.name,
            "MODELYARD_DOCKER_SOCKET": docker_host.removeprefix("unix://"),
            "MODELYARD_URL": self.url,
            "MODELYARD_INSTALLATION": self.name,
            "MODELYARD_NODE_NAME": "composed",
            "MODELYARD_SIMULATED_GPUS": "2xH100-80GB",
        }
        self.env |= {f"MODELYARD_{name}_PORT": str(port) for name, port in self.ports.items()}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['API']}"

    async def compose(self, *arguments: str) -> str:
        return await run("docker-compose", *arguments, env=self.env)

    async def docker(self, *arguments: str) -> str:
        return (await run("docker", *arguments, env=self.env)).strip()

    async def left(self) -> list[str]:
        """What the engine still knows of this project."""
        label = f"label=com.docker.compose.project={self.name}"
        asked = [("ps", "-aq"), ("volume", "ls", "-q"), ("network", "ls", "-q")]
        answers = [await self.docker(*ask, "--filter", label) for ask in asked]
        return [line for answer in answers for line in answer.splitlines()]

    async def states(self) -> dict[str, Any]:
        """Service → the engine's `State`."""
        label = f"label=com.docker.compose.project={self.name}"
        ids = (await self.docker("ps", "-aq", "--filter", label)).split()
        shown = json.loads(await self.docker("inspect", *ids))
        service = "com.docker.compose.service"
        return {one["Config"]["Labels"][service]: one["State"] for one in shown}


@pytest.fixture(scope="module")
async def images(docker_host: str) -> dict[str, str]:
    printed = await run("deploy/base/images.sh", env={"DOCKER_HOST": docker_host})
    return dict(line.split("=", 1) for line in printed.split())


@pytest.fixture
async def project(docker_host: str, images: dict[str, str]) -> AsyncIterator[Project]:
    project = Project(docker_host, images)
    try:
        yield project
    finally:
        await project.compose("down", "--volumes", "--timeout", "5")


async def test_it_becomes_ready_and_leaves_nothing(project: Project) -> None:
    await project.compose("up", "--detach", "--no-build")
    async with httpx.AsyncClient(base_url=project.url) as client:

        async def ready() -> bool:
            try:
                return (await client.get("/readyz")).status_code == 200
            except httpx.TransportError:
                return False

        await eventually(ready, timeout_s=60)
    states = await project.states()
    running = {name for name, state in states.items() if state["Running"]}
    assert running == {"api", "worker", "agent", "nats", "mongo", "registry"}
    assert {name: state["ExitCode"] for name, state in states.items() if name not in running} == {
        "setup": 0,
        "mongo-setup": 0,
    }
    await project.compose("down", "--volumes", "--timeout", "30")
    assert await project.left() == []
