"""Clients that common generators make of the OpenAPI document, used against a real server."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.support.http.api_process import PASSWORD, ROOT, ApiProcess, api_process, settings
from tests.support.systems.services import Services

HERE = Path(__file__).parent
REFERENCE = "127.0.0.1:5000/team/model:1"
PACKAGES = (
    "@hey-api/openapi-ts@0.80.0",
    "openapi-typescript@7.13.0",
    "openapi-fetch@0.17.0",
    "typescript@5.9.3",
)
"""The newest that Debian's node runs."""
TYPESCRIPT = "--module commonjs --moduleResolution node10 --target es2022 --strict --skipLibCheck"
PATIENCE_S = 900


async def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """What it prints; it must not fail."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            told, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, told.decode()
    return told.decode()


@pytest.fixture(scope="module")
async def server(services: Services, mongo_url: str) -> AsyncIterator[ApiProcess]:
    nats = services.nats()
    await nats.start()
    async with api_process(settings(nats.url, mongo_url)) as server:
        yield server
    await nats.stop()


@pytest.fixture
async def document(server: ApiProcess, tmp_path: Path) -> Path:
    path = tmp_path / "openapi.json"
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as http:
        path.write_bytes((await http.get("/openapi.json")).content)
    return path


@pytest.fixture(scope="module")
async def modules() -> Path:
    """`node_modules` with PACKAGES, kept for the next run."""
    folder = kept("npm", " ".join(PACKAGES))
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        quiet = ("--no-save", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error")
        await run("npm", "install", *quiet, *PACKAGES, cwd=folder)
        (folder / "complete").touch()
    return folder / "node_modules"


@pytest.fixture(scope="module")
async def generator() -> Path:
    """Where the commands of an environment with openapi-python-client are, kept as well.

    It wants older libraries than the product has.
    """
    pinned = HERE / "requirements.txt"
    folder = kept("openapi-python-client", pinned.read_text())
    if not (folder / "complete").exists():
        await run(sys.executable, "-m", "venv", "--clear", folder, cwd=ROOT)
        safe = ("--quiet", "--disable-pip-version-check", "--require-hashes", "--only-binary=:all:")
        await run(folder / "bin" / "pip", "install", *safe, "-r", pinned, cwd=ROOT)
        (folder / "complete").touch()
    return folder / "bin"


def kept(name: str, content: str) -> Path:
    return ROOT / ".cache" / f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


@pytest.mark.timeout(2 * PATIENCE_S)
async def test_a_python_client_works(
    server: ApiProcess, document: Path, generator: Path, tmp_path: Path
) -> None:
    options = ("generate", "--path", document, "--output-path", tmp_path / "client")
    # It calls ruff by its name.
    path = f"{generator}{os.pathsep}{os.environ['PATH']}"
    told = await run(generator / "openapi-python-client", *options, cwd=tmp_path, PATH=path)
    assert "Skipping Integration" not in told
    script = HERE / "generated_python.py"
    call = (generator / "python", script, server.url, PASSWORD, REFERENCE)
    await run(*call, cwd=tmp_path, PYTHONPATH=str(tmp_path / "client"))


@pytest.mark.timeout(2 * PATIENCE_S)
async def test_typescript_clients_work(
    server: ApiProcess, document: Path, modules: Path, tmp_path: Path
) -> None:
    (tmp_path / "node_modules").symlink_to(modules)
    shutil.copy(HERE / "generated_typescript.ts", tmp_path / "use.ts")
    tools = modules / ".bin"
    hey_api = ("-i", document, "-o", "hey", "-c", "@hey-api/client-fetch")
    await run(tools / "openapi-ts", *hey_api, cwd=tmp_path)
    await run(tools / "openapi-typescript", document, "-o", "types.ts", cwd=tmp_path)
    await run(tools / "tsc", "use.ts", *TYPESCRIPT.split(), cwd=tmp_path)
    used = await run("node", "use.js", server.url, PASSWORD, REFERENCE, cwd=tmp_path)
    assert len(set(used.split())) == 2
