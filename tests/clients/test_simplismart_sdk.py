"""The unmodified `simplismart-sdk` from its package index, as a class and as a command: a container
is imported, deployed, called through the gateway, changed and deleted again."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from simplismart import (
    AutoscaleTarget,
    CronScalingRule,
    DeploymentCreate,
    ModelRepoCreate,
    ModelRepoListParams,
    SecretCreate,
    Simplismart,
    SimplismartError,
)

from tests.support.archives.image_delivery import push
from tests.support.archives.images import busybox_image
from tests.support.registries.locked_registry import PASSWORD, USER, LockedRegistry
from tests.support.systems.deployed_yard import Yard, deployed_yard
from tests.support.systems.services import Services
from tests.support.waiting import eventually

GPU = "nvidia-h100"
CHECK = {"path": "/", "port": 8080, "initialDelaySeconds": 5, "periodSeconds": 1}


@pytest.fixture(scope="module")
async def yard(
    tmp_path_factory: pytest.TempPathFactory,
    services: Services,
    mongo_url: str,
    registry_host: str,
    docker_host: str,
) -> AsyncIterator[Yard]:
    folder = tmp_path_factory.mktemp("sdk")
    async with deployed_yard(folder, services, mongo_url, registry_host, docker_host) as yard:
        yield yard


@pytest.fixture(scope="module")
async def host(services: Services, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A registry with `team/serves:1` behind USER and PASSWORD."""
    registry = LockedRegistry(tmp_path_factory.mktemp("locked"), port=services.registry().port)
    await registry.start()
    push(busybox_image(), registry.host, "team/serves", "1")
    registry.locked = True
    await registry.restart()
    yield registry.host
    await registry.stop()


class Clients:
    """One organisation, as users of the SDK see it."""

    def __init__(self, yard: Yard) -> None:
        self.yard = yard
        self.url = f"http://127.0.0.1:{yard.api.port}"
        self.token = str(yard.system.http.headers["Authorization"]).removeprefix("Bearer ")
        self.sdk = Simplismart(self.token, base_url=self.url, timeout=60)
        self.org = ""

    async def call(self, method: Callable[..., Any], *given: Any, **named: Any) -> Any:
        return await asyncio.to_thread(method, *given, **named)

    async def run(self, *words: str) -> Any:
        """What the command prints."""
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("simplismart")),
            *("--pg-token", self.token, "--base-url", self.url, *words),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode == 0, (out + err).decode()
        return json.loads(out)

    async def secret(self, host: str) -> str:
        data = {"username": USER, "token": PASSWORD, "server": host}
        wanted = SecretCreate(
            secret_type="docker_hub", name=f"s{uuid.uuid4().hex[:8]}", data=data, org=self.org
        )
        return str((await self.call(self.sdk.create_secret, wanted))["uuid"])

    def container(self, name: str, secret: str) -> ModelRepoCreate:
        return ModelRepoCreate(
            name=name,
            org_id=self.org,
            source_type="docker_hub",
            source_secret=secret,
            registry_path="team/serves",
            docker_tag="1",
            runtime_gpus=1,
            env={"A": "1"},
            healthcheck=CHECK,
        )

    async def healthy(self, id: str) -> None:
        async def is_healthy() -> bool:
            found = await self.call(self.sdk.fetch_deployment_health, id)
            return bool(found["data"] == "Healthy")

        await eventually(is_healthy, timeout_s=60)

    async def answers(self, endpoint: str) -> None:
        async def is_answered() -> bool:
            return (await self.yard.system.http.get(endpoint)).status_code == 200

        await eventually(is_answered)


@pytest.fixture(scope="module")
async def clients(yard: Yard) -> Clients:
    clients = Clients(yard)
    home = (await yard.system.get(yard.api, "/me"))["org"]
    clients.org = (await yard.system.get(yard.api, f"/organisations/{home}"))["uuid"]
    return clients


async def test_the_class_keeps_secrets_and_containers(clients: Clients, host: str) -> None:
    sdk, call = clients.sdk, clients.call
    secret = await clients.secret(host)
    assert (await call(sdk.get_secret, secret))["org"] == clients.org
    listed = await call(sdk.list_secrets, clients.org)
    assert secret in [each["uuid"] for each in listed["data"]]
    assert (await call(sdk.list_secret_configs))["data"]
    wanted = clients.container("by-class", secret)
    repo = await call(sdk.create_model_repo, wanted)
    assert (repo["status"], repo["org_id"]) == ("SUCCESS", clients.org)
    with pytest.raises(SimplismartError) as refused:
        await call(sdk.create_model_repo, wanted)
    assert refused.value.args[0] == {
        "non_field_errors": ["Model with this name already exists for this organization."]
    }
    params = ModelRepoListParams(org_id=clients.org, name="Y-CL", status="success")
    assert [each["uuid"] for each in await call(sdk.list_model_repos, params)] == [repo["uuid"]]
    assert await call(sdk.get_model_repo, repo["uuid"], org_id=clients.org) == repo
    assert await call(sdk.delete_model_repo, repo["uuid"]) is True


async def test_the_class_takes_a_container_to_an_endpoint_and_back(
    clients: Clients, host: str
) -> None:
    sdk, call = clients.sdk, clients.call
    wanted = clients.container("called", await clients.secret(host))
    repo = await call(sdk.create_model_repo, wanted)
    deployment = DeploymentCreate(
        model_repo=repo["uuid"],
        org=clients.org,
        gpu_id=GPU,
        name="by class",
        min_pod_replicas=1,
        max_pod_replicas=1,
        env_variables={"A": "2"},
    )
    made = await call(sdk.create_private_deployment, deployment)
    id = made["uuid"]
    await clients.healthy(id)
    await clients.answers(made["model_endpoint"])
    full = await call(sdk.get_deployment, id)
    assert (full["status"], full["accelerator_type"]) == ("DEPLOYED", [GPU])
    (short,) = await call(sdk.list_deployments, model_repo_id=repo["uuid"], status="deployed")
    assert (short["deployment_id"], short["model_repo_name"]) == (id, "called")
    whole = await call(sdk.list_model_deployments, org_id=clients.org)
    assert [each["uuid"] for each in whole] == [id]
    await changed(clients, id)
    with pytest.raises(SimplismartError) as refused:
        await call(sdk.delete_model_repo, repo["uuid"])
    assert refused.value.status_code == 400
    assert await call(sdk.delete_deployment, id, org_id=clients.org) is True
    assert (await call(sdk.get_deployment, id))["status"] == "DELETED"
    assert await call(sdk.delete_model_repo, repo["uuid"]) is True


async def changed(clients: Clients, id: str) -> None:
    sdk, call = clients.sdk, clients.call
    edited = await call(sdk.update_deployment, id, {"env_variables": {"A": "3"}})
    assert edited["env_variables"] == {"A": "3"}
    await clients.healthy(id)
    scaled = await call(
        sdk.update_deployment_autoscaling,
        id,
        min_replicas=1,
        max_replicas=2,
        targets=[AutoscaleTarget(metric="latency", target=200, percentile=95)],
        cron_scaling=[CronScalingRule(timezone="UTC", start="0 8 * * *", end="0 9 * * *")],
    )
    assert (scaled["min_replicas"], scaled["max_replicas"]) == (1, 2)
    for order, done in ((sdk.stop_deployment, "stopped"), (sdk.start_deployment, "started")):
        assert (await call(order, id, org_id=clients.org))["update_result"] == done
    restarted = await call(sdk.restart_deployment, id, org_id=clients.org, namespace="any")
    assert restarted["update_result"] == "restarted"


async def test_the_command_does_the_same(clients: Clients, host: str) -> None:
    secret, run = await clients.secret(host), clients.run
    repo = await run(
        *("model-repos", "create-container", "--name", "by-command", "--org-id", clients.org),
        *("--source-type", "docker_hub", "--source-secret", secret, "--runtime-gpus", "0"),
        *("--registry-path", "team/serves", "--docker-tag", "1", "--env", "A=1"),
    )
    assert (repo["status"], repo["env"]) == ("SUCCESS", {"A": "1"})
    made = await run(
        *("deployments", "create", "--model-repo", repo["uuid"], "--org", clients.org),
        *("--gpu-id", "cpu", "--name", "by-command", "--healthcheck", json.dumps(CHECK)),
        *("--min-pod-replicas", "1", "--max-pod-replicas", "1"),
    )
    id = made["uuid"]
    await clients.healthy(id)
    await clients.answers(made["model_endpoint"])
    nodes = await clients.yard.system.nodes(clients.yard.api)
    byoc = {
        "model_repo": repo["uuid"],
        "name": "on-my-node",
        "min_pod_replicas": 1,
        "max_pod_replicas": 1,
        "nodegroups": [nodes[0]["uuid"]],
        "healthcheck": CHECK,
    }
    other = await run("deployments", "create-byoc", "--payload", json.dumps(byoc))
    await clients.healthy(other["uuid"])
    scaled = await run(
        *("deployments", "scale", "--deployment-id", id, "--min-replicas", "1"),
        *("--max-replicas", "2", "--scale-to-zero"),
    )
    assert scaled["max_replicas"] == 2
    for words in (("stop",), ("start",), ("get",)):
        assert await run("deployments", *words, "--deployment-id", id)
    listed = await run("deployments", "list", "--model-repo-id", repo["uuid"])
    assert {each["deployment_id"] for each in listed} == {id, other["uuid"]}
    for each in (id, other["uuid"]):
        assert await run("deployments", "delete", "--deployment-id", each)
    assert await run("model-repos", "delete", "--model-id", repo["uuid"])
