"""Deployments of a system of processes, as their owners see them, and calls of their endpoints."""

from __future__ import annotations

import asyncio
import csv
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from pipeline.adapters.gateway.haproxy import Haproxy
from pipeline.gateway.routing import servers_of
from pipeline.stack.pieces.app import ApiPiece, AppPiece
from pipeline.stack.pieces.gateway import HaproxyPiece
from tests.support.archives.image_delivery import push
from tests.support.archives.images import busybox_image
from tests.support.processes import any_free
from tests.support.systems.services import Services
from tests.support.systems.system import System, a_system
from tests.support.waiting import eventually

HEALTH = {"port": 8080, "path": "/", "interval_s": 0.3, "start_period_s": 5, "retries": 1}


@dataclass
class Yard:
    system: System
    api: ApiPiece
    image: str
    haproxy: Haproxy
    gateway: HaproxyPiece
    follower: AppPiece
    """Keeps `gateway` in step with the records."""
    spare: int | None
    """Port of a second server that the gateway would give calls without a replica, too."""

    async def call(self, method: str, path: str = "", **options: Any) -> httpx.Response:
        return await self.system.call(self.api, method, f"/deployments{path}", **options)

    async def done(self, method: str, path: str = "", wait: int = 40, **options: Any) -> Any:
        """The record once it is settled."""
        answer = await self.call(method, path, params={"wait": wait}, **options)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    async def create(
        self, name: str, replicas: int = 1, *, idle_s: float = 900, **template: Any
    ) -> Any:
        return await self.done("POST", json=self.spec(name, replicas, idle_s=idle_s, **template))

    def spec(
        self, name: str, replicas: int, *, idle_s: float = 900, **template: Any
    ) -> dict[str, Any]:
        template = {"image": self.image, "health": HEALTH} | template
        spec = {"name": name, "template": template, "min_replicas": replicas, "max_replicas": 3}
        return spec | {"drain_s": 0.3, "idle_s": idle_s}

    async def replicas(self, deployment: Any) -> list[Any]:
        path = f"/containers?deployment={deployment['uuid']}"
        return list((await self.system.get(self.api, path))["items"])

    async def known(self, deployment: Any) -> None:
        """Wait until the gateway has heard of it."""

        async def is_known() -> bool:
            backends = await self.haproxy.ask("show backend")
            return deployment["uuid"].replace("-", "")[:16] in backends

        await eventually(is_known)

    async def servers(self, deployment: Any) -> int:
        """To how many the gateway gives its calls."""
        known = servers_of(await self.haproxy.ask("show servers state"))
        return len(known.get(deployment["endpoint"].rstrip("/").rpartition("/")[2], {}))

    async def waiting(self) -> int:
        """Calls that a server holds until there is a replica."""
        rows = csv.DictReader((await self.haproxy.ask("show stat")).removeprefix("# ").splitlines())
        key = ("activator", "BACKEND")
        return sum(int(row["scur"]) for row in rows if (row["pxname"], row["svname"]) == key)

    async def deleted(self, deployment: Any) -> None:
        assert (await self.done("DELETE", f"/{deployment['uuid']}"))["status"] == "DELETED"
        assert await self.replicas(deployment) == []


@asynccontextmanager
async def deployed_yard(
    folder: Path, services: Services, mongo_url: str, registry_host: str, docker_host: str
) -> AsyncIterator[Yard]:
    """API, worker, agent and gateway, on an engine and GPUs that are simulated."""
    nats, (port, other) = services.nats(), (any_free(random.Random()) for _ in range(2))
    await nats.start()
    push(busybox_image(), registry_host, "deployed/serves", "1")
    where = {
        "NATS_URL": nats.url,
        "MONGO_URL": mongo_url,
        "API_PORT": str(port),
        "REGISTRY": registry_host,
        "DOCKER_HOST": docker_host,
        "SIMULATED_GPUS": "2xH100-80GB",
        **dict.fromkeys(("FIGURES_INTERVAL_S", "SAMPLES_INTERVAL_S", "AUTOSCALE_INTERVAL_S"), "1"),
    }
    async with a_system(folder, random.Random(), **where) as system:
        activators = [f"127.0.0.1:{each}" for each in (port, other)]
        haproxy = services.haproxy(system.settings["SIGNING_KEY"], activators=activators)
        await haproxy.start()
        system.settings["GATEWAY_URL"] = haproxy.url
        follower = await system.gateway(haproxy)
        api = await system.api()
        await system.worker()
        await system.agent()
        await system.login(api)
        await system.nodes(api)
        image = await system.image(api, f"{registry_host}/deployed/serves:1")
        known = Haproxy(haproxy.run_folder)
        yield Yard(system, api, image["uuid"], known, haproxy, follower, other)
        await haproxy.stop()
    await nats.stop()


class Load:
    """Calls of an endpoint, so many in a second, until it is left. Only what failed is kept."""

    def __init__(self, yard: Yard, endpoint: str, *, each_s: float = 0.02) -> None:
        self._yard, self._endpoint, self._each_s = yard, endpoint, each_s
        self.answered = 0
        self.failed: list[str] = []
        self._calls: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Load:
        self._sending = asyncio.create_task(self._send())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._sending.cancel()
        await asyncio.wait([self._sending])
        await asyncio.gather(*self._calls)

    @property
    def unanswered(self) -> int:
        """Under way, or failed."""
        return len(self._calls) + len(self.failed)

    @property
    def cut(self) -> list[str]:
        """What failed after somebody had taken the connection."""
        return [each for each in self.failed if not each.startswith("ConnectError")]

    async def _send(self) -> None:
        while True:
            call = asyncio.create_task(self._call())
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)
            await asyncio.sleep(self._each_s)

    async def _call(self) -> None:
        try:
            answer = await self._yard.system.http.get(self._endpoint, timeout=20)
        except httpx.TransportError as error:
            self.failed.append(repr(error))
            return
        if answer.status_code == 200:
            self.answered += 1
        else:
            self.failed.append(f"{answer.status_code} {answer.text}")


async def reachable(yard: Yard, endpoint: str) -> None:
    async def answers() -> bool:
        return (await yard.system.http.get(endpoint)).status_code == 200

    await eventually(answers)
