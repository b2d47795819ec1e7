"""The HTTP server as a process of its own, and the settings that it runs with."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

from pipeline.settings import Settings
from tests.support.processes import any_free

ROOT = Path(__file__).parents[3]
DEADLINE_S = 60
PASSWORD = "open sesame, please"
ORG = "acme"

_RNG = random.Random()


def settings(nats_url: str, mongo_url: str, **given: Any) -> Settings:
    """Over a database of its own and on a free port."""
    values: dict[str, Any] = {
        "nats_url": nats_url,
        "mongo_url": mongo_url,
        "mongo_database": f"test-{uuid.uuid4().hex}",
        "signing_key": SecretStr("s" * 32),
        "encryption_keys": SecretStr("k1:" + "QUFB" * 10 + "QUE="),
        "admin_password": SecretStr(PASSWORD),
        "org": ORG,
        "allow_private_addresses": True,
        "api_port": any_free(_RNG),
    }
    return Settings(**values | given)


def environment(settings: Settings) -> dict[str, str]:
    ours = {
        f"MODELYARD_{name.upper()}": str(
            value.get_secret_value() if isinstance(value, SecretStr) else value
        )
        for name, value in settings
        if name in settings.model_fields_set
    }
    return {**os.environ, **ours}


class ApiProcess:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.url = f"http://127.0.0.1:{settings.api_port}"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Returns when `/readyz` says so."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "api", cwd=ROOT, env=environment(self.settings)
        )
        async with asyncio.timeout(DEADLINE_S), httpx.AsyncClient(base_url=self.url) as http:
            while not await _is_ready(http):
                assert self._process.returncode is None, "the server ended while it started"
                await asyncio.sleep(0.05)

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Its exit code."""
        assert self._process is not None, "it was started"
        if self._process.returncode is None:
            self._process.send_signal(how)
        return await asyncio.wait_for(self._process.wait(), DEADLINE_S)

    @property
    def rss_mib(self) -> float:
        assert self._process is not None, "it was started"
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        [line] = [line for line in status.splitlines() if line.startswith("VmRSS")]
        return int(line.split()[1]) / 1024


@asynccontextmanager
async def api_process(settings: Settings) -> AsyncIterator[ApiProcess]:
    process = ApiProcess(settings)
    try:
        await process.start()
        yield process
    finally:
        await process.stop(signal.SIGKILL)


async def log_in(http: httpx.AsyncClient) -> str:
    """Makes the client the administrator's; returns the access token."""
    answer = await http.post("/yard/v1/login", json={"username": "admin", "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    access: str = answer.json()["access"]
    http.headers["Authorization"] = f"Bearer {access}"
    return access


async def _is_ready(http: httpx.AsyncClient) -> bool:
    try:
        answer = await http.get("/readyz")
    except httpx.TransportError:
        return False
    return answer.status_code == 200
