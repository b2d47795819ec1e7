"""A whole system of real processes over given services: API, workers and agents to kill at will."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from pipeline.adapters.engine.docker import DockerEngine
from pipeline.containers import engine_plan
from pipeline.ports import EngineContainer
from pipeline.stack.pieces.app import ApiPiece, AppPiece
from pipeline.stack.pieces.gateway import HaproxyPiece
from pipeline.stack.processes.piece import Piece
from tests.support.processes import any_free
from tests.support.waiting import eventually

PASSWORD = "a-long-admin-password"
KEY = base64.b64encode(b"k" * 32).decode()
BRISK = {
    "SWEEP_INTERVAL_S": "0.3",
    "SWEEP_AGE_S": "1",
    "STUCK_AFTER_S": "4",
    "HEARTBEAT_INTERVAL_S": "0.5",
    "NODE_GRACE_S": "5",
    "RECONCILE_INTERVAL_S": "2",
    "RESTART_BACKOFF_S": "0.5",
    "RESTART_BACKOFF_MAX_S": "2",
    "STOP_GRACE_S": "2",
    "ALLOW_PRIVATE_ADDRESSES": "true",
    "ACCESS_TOKEN_S": "7200",
}
"""The same waits as in production, only shorter: no test has to sit through a minute. Tokens
live as long as a system does that many tests share."""


class System:
    """Everything is named after this system, so that several share an engine and a store."""

    def __init__(self, folder: Path, random: Any, **settings: str) -> None:
        self.installation = f"test-{uuid.uuid4().hex[:12]}"
        self.database = self.installation
        self._folder = folder
        self._random = random
        self.settings = {
            "INSTALLATION": self.installation,
            "MONGO_DATABASE": self.database,
            "SIGNING_KEY": "s" * 40,
            "ENCRYPTION_KEYS": f"k1:{KEY}",
            "ADMIN_PASSWORD": PASSWORD,
            "STATE": str(folder),
            **BRISK,
            **settings,
        }
        self.pieces: list[Piece] = []
        self.http = httpx.AsyncClient(timeout=60)
        self.docker_host = self.settings["DOCKER_HOST"]

    # --- processes

    async def api(self, port: int | None = None) -> ApiPiece:
        """The first one on the port `API_PORT` of the settings, if they name one."""
        port = port or int(self.settings.pop("API_PORT", 0)) or any_free(self._random)
        env = self._env(API_PORT=str(port))
        folder = self._folder / f"api-{port}"
        piece = ApiPiece(folder, port=port, env=env, log=folder / "log")
        await self._start(piece)
        return piece

    async def worker(self) -> AppPiece:
        return await self._app("worker", "workers", self._env())

    async def agent(self, name: str = "node-a", **settings: str) -> AppPiece:
        return await self._app(name, "workers.agent", self._env(NODE_NAME=name, **settings))

    async def gateway(self, haproxy: HaproxyPiece) -> AppPiece:
        settings = {
            name.removeprefix("MODELYARD_"): value for name, value in haproxy.follower_env.items()
        }
        return await self._app("gateway", "workers.gateway", self._env(**settings))

    async def close(self) -> None:
        for piece in reversed(self.pieces):
            await piece.kill()
        await self.http.aclose()
        async with DockerEngine.open(self.docker_host) as engine:
            for left in await engine.list({engine_plan.INSTALLATION: self.installation}):
                await engine.remove(left.id)

    # --- what a caller does

    async def login(self, api: ApiPiece) -> None:
        answer = await self.http.post(
            f"http://127.0.0.1:{api.port}/yard/v1/login",
            json={"username": "admin", "password": PASSWORD},
        )
        answer.raise_for_status()
        self.http.headers["Authorization"] = f"Bearer {answer.json()['access']}"

    async def call(self, api: ApiPiece, method: str, path: str, **options: Any) -> httpx.Response:
        return await self.http.request(
            method, f"http://127.0.0.1:{api.port}/yard/v1{path}", **options
        )

    async def get(self, api: ApiPiece, path: str) -> Any:
        answer = await self.call(api, "GET", path)
        answer.raise_for_status()
        return answer.json()

    async def image(self, api: ApiPiece, reference: str) -> dict[str, Any]:
        answer = await self.call(
            api, "POST", "/images", json={"reference": reference}, params={"wait": 20}
        )
        assert answer.json()["status"] == "READY", answer.text
        return dict(answer.json())

    async def run(self, api: ApiPiece, image: str, wait: int = 30, **spec: Any) -> dict[str, Any]:
        answer = await self.call(
            api, "POST", "/containers", json={"image": image, **spec}, params={"wait": wait}
        )
        assert answer.status_code in (200, 201, 202), answer.text
        return dict(answer.json())

    async def until(
        self, api: ApiPiece, path: str, true: Callable[[dict[str, Any]], bool], seconds: float = 30
    ) -> dict[str, Any]:
        """The record once `true` holds of it."""
        latest: dict[str, Any] = {}

        async def holds() -> bool:
            nonlocal latest
            try:
                answer = await self.call(api, "GET", path)
            except httpx.TransportError:
                return False
            if answer.status_code != 200:
                return False
            latest = answer.json()
            return true(latest)

        try:
            await eventually(holds, timeout_s=seconds)
        except AssertionError as error:
            raise AssertionError(f"{path} is {json.dumps(latest)[:600]}") from error
        return latest

    async def nodes(self, api: ApiPiece, count: int = 1) -> list[dict[str, Any]]:
        """All nodes, once `count` of them are READY."""
        page = await self.until(
            api, "/nodes", lambda page: [n["status"] for n in page["items"]] == ["READY"] * count
        )
        return list(page["items"])

    async def engine_containers(self, uuid: str | None = None) -> list[EngineContainer]:
        wanted = {engine_plan.INSTALLATION: self.installation}
        if uuid:
            wanted[engine_plan.CONTAINER] = uuid
        async with DockerEngine.open(self.docker_host) as engine:
            return list(await engine.list(wanted))

    # --- inside

    def _env(self, **more: str) -> dict[str, str]:
        return {f"MODELYARD_{k}": v for k, v in {**self.settings, **more}.items()}

    async def _app(self, name: str, module: str, env: dict[str, str]) -> AppPiece:
        folder = self._folder / f"{name}-{len(self.pieces)}"
        piece = AppPiece(name, module, folder, env=env, log=folder / "log")
        await self._start(piece)
        return piece

    async def _start(self, piece: Piece) -> None:
        self.pieces.append(piece)
        await piece.start()


@asynccontextmanager
async def a_system(folder: Path, random: Any, **settings: str) -> AsyncIterator[System]:
    system = System(folder, random, **settings)
    try:
        yield system
    finally:
        await system.close()
