"""A server, and what people whose clients speak tus send to it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.connected.archives.conftest import api, api_settings, archive_nats, http
from tests.support.archives.image_archives import docker_archive
from tests.support.archives.images import busybox_image, prints
from tests.support.http.api_process import ApiProcess
from tests.support.http.tus import UPLOADS

__all__ = ["api", "api_settings", "archive_nats", "http"]

FOLDER = Path(__file__).parent
PACKAGES = Path(sys.prefix) / "tus"
"""Where deploy/setup.sh installs what package-lock.json names."""
ARCHIVE = docker_archive(
    busybox_image(command=prints("sent"), random_layers=(400_000,), seed=47), "team/sent:1"
)
CHUNK = 200_000
METADATA = {"filename": "gesandt – Ü.tar", "name": "sent-by-tus"}
DEADLINE_S = 60


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "image.tar"
    path.write_bytes(ARCHIVE)
    return path


@pytest.fixture
def token(http: httpx.AsyncClient) -> str:
    return http.headers["Authorization"].removeprefix("Bearer ")


class Script:
    """One of the clients, while it runs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def heard(self) -> dict[str, Any]:
        """What it says next."""
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), DEADLINE_S)
        said: dict[str, Any] = json.loads(line)
        return said

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())


@asynccontextmanager
async def sending(
    api: ApiProcess, token: str, file: Path, by: str = "upload.mjs", **options: Any
) -> AsyncIterator[Script]:
    """A script (`by`) that sends `file`. What it remembers of earlier ones lies beside the file."""
    runner = "node" if by.endswith(".mjs") else sys.executable
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        runner, str(FOLDER / by), str(PACKAGES), stdin=pipe, stdout=pipe
    )
    script = Script(process)
    asked = {
        "endpoint": f"{api.url}{UPLOADS}",
        "token": token,
        "file": str(file),
        "chunk": CHUNK,
        "storage": str(file.with_suffix(".urls")),
        "metadata": METADATA,
    }
    script.tell(json.dumps(asked | options))
    try:
        yield script
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
