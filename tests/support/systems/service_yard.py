"""The container service of a whole system in one process, as its clients call it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from schemas.access import Role
from tests.support.archives.image_delivery import push
from tests.support.archives.images import HEALTHCHECK, busybox_image
from tests.support.registries.registry_door import client
from tests.support.systems.services import Services
from tests.support.systems.whole_yard import WholeYard, whole_yard

WRITES = ("sh", "-c", "echo one; echo wrong >&2; sleep 2; echo two")
SERVED = 8080
"""Port on which the image answers."""


@dataclass(frozen=True, slots=True)
class Svc:
    """Calls of one organisation; every body is an object of JSON."""

    yard: WholeYard
    http: httpx.AsyncClient
    image: str
    """Answers HTTP on `SERVED`."""
    healthy_image: str
    """The same with a HEALTHCHECK."""
    name: str = field(default_factory=lambda: f"t-{uuid.uuid4().hex[:12]}")
    """Of this test."""

    async def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        answer = await self.http.request(method, f"/container-svc{path}", timeout=60, **options)
        assert answer.headers["content-type"] == "application/json", answer.text
        assert isinstance(answer.json(), dict)
        if answer.status_code >= 400:
            assert {"error", "code"} <= answer.json().keys(), answer.text
        return answer

    async def ok(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        answer = await self.call(method, path, **options)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def spec(self, **more: Any) -> dict[str, Any]:
        return {"image": self.image, "names": [self.name], **more}

    async def run(self, **more: Any) -> dict[str, Any]:
        return await self.ok("PUT", "/container", json=self.spec(**more))

    async def refused(self, status: int, **more: Any) -> str:
        """What a run is told that must fail so."""
        answer = await self.call("PUT", "/container", json=self.spec(**more))
        assert answer.status_code == status, answer.text
        return str(answer.json()["error"])

    async def listed(self, **wanted: Any) -> list[dict[str, Any]]:
        body = {"name": self.name, **wanted}
        return list((await self.ok("POST", "/containers", json=body))["containers"])

    async def one(self, **wanted: Any) -> dict[str, Any]:
        (found,) = await self.listed(**wanted)
        return found

    async def change(self, verb: str, **which: Any) -> dict[str, Any]:
        return await self.ok("PUT", f"/container/{verb}", json=which or {"name": self.name})

    async def is_running(self, **query: str) -> bool:
        answer = await self.ok("GET", "/container/is-running", params=query or {"name": self.name})
        assert answer.keys() == {"isRunning"}
        return bool(answer["isRunning"])

    def build_root(self) -> Path:
        """The folder below which builds find their contexts."""
        (root,) = self.yard.settings.build_folders
        return root

    async def as_role(self, role: Role) -> httpx.AsyncClient:
        return await client(self.yard.app, self.yard.org, role)


@asynccontextmanager
async def service_yard(
    services: Services,
    mongo_url: str,
    registry_host: str,
    docker_host: str,
    settings: Mapping[str, Any],
) -> AsyncIterator[tuple[WholeYard, str, str]]:
    nats = services.nats()
    await nats.start()
    for name, image in (
        ("serves", busybox_image()),
        ("healthy", busybox_image(healthcheck=HEALTHCHECK)),
        ("writes", busybox_image(command=WRITES)),
    ):
        push(image, registry_host, f"svc/{name}", "1")
    given = {"simulated_gpus": "2xH100-80GB", "registry": registry_host, **settings}
    async with whole_yard(nats.url, mongo_url, docker_host, **given) as yard:
        yield yard, f"{registry_host}/svc/serves:1", f"{registry_host}/svc/healthy:1"
    await nats.stop()
