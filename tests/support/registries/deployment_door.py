"""Imported containers and their deployments, as a client of one organisation sees them."""

from __future__ import annotations

import uuid
from typing import Any

import httpx

from schemas.deployment import Deployment
from tests.support.registries.locked_registry import PASSWORD, USER
from tests.support.registries.registry_door import Door

REPOS = "/models/client/model-repos/"
DEPLOYMENTS = "/deployments/model-deployments/"
PRIVATE = "/deployments/private/deploy-model/"
UNKNOWN = "4080f3b5-4d6e-4c36-a6eb-d6f0cd3b0e6d"
PRIVATE_KEYS = frozenset(
    {
        *("uuid", "model_repo", "name", "slug", "org", "deployment_tag", "min_pod_replicas"),
        *("max_pod_replicas", "autoscale_config", "persistent_volume_claims", "env_variables"),
        *("deployment_custom_configuration", "ports", "healthcheck", "fast_scaleup"),
        "model_endpoint",
    }
)

DEPLOYED_KEYS = PRIVATE_KEYS | {
    *("gpu_id", "cluster", "node_groups", "status", "scale_to_zero_enabled"),
    *("async_deployment_type", "advanced_configuration", "accelerator_type"),
    *("accelerator_count", "created_at", "updated_at"),
}
GROUP = str(uuid.uuid4())
"""Of nodes."""
LOAD = {"targets": [{"metric": "concurrency", "target": 8, "unit": "requests"}]}


class Deploying:
    """`host`: a registry with `team/model:1`, behind USER and PASSWORD."""

    def __init__(self, door: Door, secret: str) -> None:
        self.door = door
        self._secret = secret

    @classmethod
    async def begun(cls, door: Door, host: str) -> Deploying:
        name = f"s{uuid.uuid4().hex[:8]}"
        return cls(door, await door.secret(host, name, username=USER, password=PASSWORD))

    async def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        answer = await self.door.http.request(method, path, **options)
        assert answer.status_code < 500, answer.text
        return answer

    async def repo(self, **given: Any) -> dict[str, Any]:
        """A container, under a name of its own."""
        body = {
            "name": f"repo-{uuid.uuid4().hex[:8]}",
            "runtime_gpus": 0,
            "docker_tag": "1",
            "registry_path": "team/model",
            "source_secret": self._secret,
        } | given
        answer = await self.call("POST", REPOS, json=body)
        assert (answer.status_code, answer.json().get("status")) == (201, "SUCCESS"), answer.text
        return dict(answer.json())

    def body(self, repo: dict[str, Any], **given: Any) -> dict[str, Any]:
        return {
            "model_repo": repo["uuid"],
            "name": f"d{uuid.uuid4().hex[:8]}",
            "gpu_id": "cpu",
            "min_pod_replicas": 1,
            "max_pod_replicas": 1,
        } | given

    def byoc(self, repo: dict[str, Any], groups: list[str], **given: Any) -> dict[str, Any]:
        body = self.body(repo, nodegroups=groups, **given)
        del body["gpu_id"]
        return body

    async def made(self, repo: dict[str, Any], **given: Any) -> dict[str, Any]:
        answer = await self.call("POST", PRIVATE, json=self.body(repo, **given))
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def refused(self, path: str, body: Any) -> Any:
        answer = await self.call("POST", path, json=body)
        assert answer.status_code == 400, answer.text
        return answer.json()

    async def full(self, id: str) -> dict[str, Any]:
        answer = await self.call("GET", f"{DEPLOYMENTS}{id}/")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def record(self, id: str) -> Deployment:
        return await self.door.services.records.store.get(Deployment, id, org=self.door.org)

    async def listed(self, **params: Any) -> list[dict[str, Any]]:
        answer = await self.call("GET", "/deployments/list/model/", params=params)
        assert answer.status_code == 200, answer.text
        return list(answer.json())

    async def edit(self, id: str, **given: Any) -> httpx.Response:
        return await self.call("POST", f"/deployments/{id}/edit", json=given)

    async def ordered(self, id: str, path: str, **given: Any) -> httpx.Response:
        return await self.call("POST", f"/deployments/{id}/{path}/", json=given)

    async def update(self, id: str, **given: Any) -> httpx.Response:
        return await self.call("POST", f"/deployments/{id}/update-replicas/", json=given)

    async def health(self, id: str) -> dict[str, Any]:
        answer = await self.call("GET", f"/deployments/model-deployment/fetch-status/{id}/")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def delete(self, id: str) -> Any:
        answer = await self.call("DELETE", f"/deployments/{id}/delete/")
        assert answer.status_code == 200, answer.text
        return answer.json()
