"""compose.yaml brought up for real, from images made of this host's programs."""

from __future__ import annotations

import json
import random
import sys
import uuid
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx
import pytest

from pipeline.stack.processes.probes import until
from tests.support.archives.image_archives import docker_archive
from tests.support.archives.images import busybox_image
from tests.support.commands import run
from tests.support.processes import any_free

PORTS = ("API", "NATS", "MONGO", "REGISTRY", "AGENT_METRICS", "GATEWAY", "GATEWAY_METRICS")


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
            "MODELYARD_GATEWAY_URL": f"http://127.0.0.1:{self.ports['GATEWAY']}",
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

    async def inside(self, *command: str) -> str:
        """In the API's container, with the keys of the installation."""
        return await self.compose("exec", "-T", "api", "entrypoint.sh", *command)

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
    env = {"DOCKER_HOST": docker_host, "PYTHON": sys.executable}
    printed = await run("deploy/base/images.sh", env=env)
    return dict(line.split("=", 1) for line in printed.split())


@pytest.fixture
async def project(docker_host: str, images: dict[str, str]) -> AsyncIterator[Project]:
    project = Project(docker_host, images)
    try:
        yield project
    finally:
        if await project.left():
            await project.compose("down", "--volumes", "--timeout", "5")


# All images are made first where the cache of this machine is cold.
@pytest.mark.timeout(400)
async def test_it_becomes_ready_and_leaves_nothing(project: Project) -> None:
    await project.compose("up", "--detach", "--no-build")
    assert await until(partial(is_ready, project), timeout_s=60, every_s=0.2)
    assert await until(partial(all_healthy, project), timeout_s=60, every_s=0.5)
    states = await project.states()
    running = {name for name, state in states.items() if state["Running"]}
    infrastructure = {"nats", "mongo", "registry"}
    assert running == {"api", "worker", "agent", "haproxy", "gateway"} | infrastructure
    ended = {name: state["ExitCode"] for name, state in states.items() if name not in running}
    assert ended == {"setup": 0, "mongo-setup": 0}
    await runs_an_image(project)
    await project.compose("down", "--volumes", "--timeout", "30")
    assert await project.left() == []


async def is_ready(project: Project) -> bool:
    async with httpx.AsyncClient(base_url=project.url) as client:
        try:
            return (await client.get("/readyz")).status_code == 200
        except httpx.TransportError:
            return False


async def all_healthy(project: Project) -> bool:
    judged = [state.get("Health") for state in (await project.states()).values()]
    return all(health["Status"] == "healthy" for health in judged if health)


async def runs_an_image(project: Project) -> None:
    """From its registry on its own agent, asked for by the command line inside a container."""
    password = await project.inside("sh", "-c", 'echo "$MODELYARD_ADMIN_PASSWORD"')
    # Hashing a password takes its time where both cores are busy.
    async with httpx.AsyncClient(base_url=project.url, timeout=30) as client:
        asked = {"username": "admin", "password": password.strip()}
        token = (
            (await client.post("/yard/v1/login", json=asked)).raise_for_status().json()["access"]
        )

    async def modelyard(*arguments: str) -> Any:
        given = f"MODELYARD_TOKEN={token}"
        return json.loads(await project.inside("env", given, "modelyard", *arguments, "--json"))

    nodes = await modelyard("nodes", "list")
    assert [node["name"] for node in nodes] == ["composed"]
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/x-tar"}
    async with httpx.AsyncClient(base_url=project.url, timeout=30, headers=headers) as client:
        archive = docker_archive(busybox_image(), "tiny:1")
        sent = await client.post("/yard/v1/images", params={"name": "tiny"}, content=archive)
    assert sent.status_code == 201, sent.text
    await is_called_through_the_gateway(project, token)
    async with httpx.AsyncClient(base_url=project.url, timeout=60, headers=headers) as client:
        gone = await client.delete(f"/yard/v1/images/{sent.json()['uuid']}")
    assert gone.status_code == 200, gone.text
    await project.docker("image", "rm", "-f", sent.json()["pinned"])
    assert await until(partial(gives_space_back, project), timeout_s=60, every_s=1)


async def is_called_through_the_gateway(project: Project, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    template = {"image": "tiny", "gpus": 1}
    spec = {"name": "served", "template": template, "drain_s": 0}
    async with httpx.AsyncClient(base_url=project.url, timeout=60, headers=headers) as client:
        waiting = {"wait": 30}
        made = (await client.post("/yard/v1/deployments", json=spec, params=waiting)).json()
        assert (made["status"], made["reason"]) == ("DEPLOYED", None)

        async def is_answered() -> bool:
            return (await client.get(made["endpoint"])).status_code == 200

        assert await until(is_answered, timeout_s=30, every_s=0.2)
        ended = await client.delete(f"/yard/v1/deployments/{made['uuid']}", params=waiting)
    assert ended.json()["status"] == "DELETED"


async def gives_space_back(project: Project) -> bool:
    """The worker has the registry's container remove what nothing refers to."""
    told = await project.compose("exec", "-T", "worker", "entrypoint.sh", "modelyard", "collect")
    return float(told.split()[0]) > 0
