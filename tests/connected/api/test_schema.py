"""Every documented operation, called as the document says and otherwise: it does as it says."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.support.http.api_process import ApiProcess, api_process, log_in, settings
from tests.support.systems.services import Services

HERE = Path(__file__).parent
EXAMPLES = os.environ.get("SCHEMA_EXAMPLES", "3")
"""Of one operation, besides those that the document gives and the bounds of each parameter."""
OPTIONS = (
    *("--config-file", str(HERE / "schemathesis.toml")),
    "run",
    *("--phases", "examples,coverage,fuzzing"),
    *("--max-examples", EXAMPLES),
    "--generation-deterministic",
    "--no-shrink",
    *("--request-timeout", "30"),
    # Two threads that parse at once break each other before CPython 3.11.8 (python/cpython#106905).
    *("--workers", "1"),
)


@pytest.fixture
async def api(services: Services, mongo_url: str, registry_host: str) -> AsyncIterator[ApiProcess]:
    """One that waits for nothing long: nobody works for it."""
    nats = services.nats()
    await nats.start()
    quick = dict.fromkeys(("registry_health_wait_s", "wait_max_s", "verdict_wait_s"), 0.02)
    async with api_process(settings(nats.url, mongo_url, registry=registry_host, **quick)) as api:
        yield api
    await nats.stop()


@pytest.mark.timeout(3600)
async def test_every_operation_does_as_its_description_says(
    api: ApiProcess, tmp_path: Path
) -> None:
    async with httpx.AsyncClient(base_url=api.url, timeout=30) as http:
        await log_in(http)
        # A session may end in the middle: `/logout` is called, too.
        body = {"name": "schemathesis", "role": "admin"}
        token = (await http.post("/yard/v1/tokens", json=body)).json()["token"]
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("schemathesis"),
        "--no-color",
        *OPTIONS,
        *("--url", api.url),
        *("--header", f"Authorization: Bearer {token}"),
        f"{api.url}/openapi.json",
        cwd=tmp_path,
        env=os.environ | {"SCHEMATHESIS_HOOKS": str(HERE / "schemathesis_hooks.py")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told, _ = await process.communicate()
    assert process.returncode == 0, told.decode()
