"""The unmodified `@1backend/client` runs, finds and stops containers, and builds images."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from schemas.access import Role
from tests.connected.container_svc.conftest import opened, svc
from tests.support.archives.contexts import folder
from tests.support.http.serving import serving
from tests.support.systems.service_yard import SERVED, Svc
from tests.support.systems.whole_yard import WholeYard
from tests.support.tenants import PASSWORD, Tenant

__all__ = ["opened", "svc"]

PACKAGES = Path(sys.prefix) / "onebackend"
"""Where deploy/setup.sh installs what package-lock.json names."""
SCRIPT = Path(__file__).parent / "calls.mjs"
DEADLINE_S = 90


@pytest.fixture(scope="package")
async def url(opened: tuple[WholeYard, str, str]) -> AsyncIterator[str]:
    """Of the same system, over TCP, until its end: a server that stops ends every wait."""
    yard = opened[0]
    async with serving(yard.app, yard.settings, is_open=True) as (_, url):
        yield url


async def test_the_client_runs_finds_and_stops_a_container_and_builds_an_image(
    svc: Svc, url: str
) -> None:
    builder, tenant = f"{svc.name}-builder", Tenant(svc.yard.services.access, svc.yard.org)
    await tenant.user(Role.SERVICE, name=svc.name)
    await tenant.user(Role.MEMBER, name=builder)
    registry = svc.image.partition("/")[0]
    login = {"appHost": svc.yard.org, "password": PASSWORD}
    asked = {
        "url": url,
        "login": login | {"slug": svc.name},
        "builder": login | {"slug": builder},
        "build": {"name": svc.name, "contextPath": str(folder(svc.build_root() / svc.name))},
        "run": svc.spec(ports=[{"internal": SERVED}], labels=[{"key": "a", "value": "b"}]),
        "absent": f"{registry}/no/such:1",
    }
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        "node", str(SCRIPT), str(PACKAGES), stdin=pipe, stdout=pipe, stderr=pipe
    )
    sent = process.communicate(json.dumps(asked).encode() + b"\n")
    out, errors = await asyncio.wait_for(sent, DEADLINE_S)
    assert process.returncode == 0, errors.decode()
    said = json.loads(out)
    assert (said["first"]["started"], said["second"]["started"]) == (True, False)
    assert said["first"]["ports"] == said["second"]["ports"]
    assert (said["runs"], said["runsStill"]) == ({"isRunning": True}, {"isRunning": False})
    assert svc.name in [name for each in said["listed"]["containers"] for name in each["names"]]
    assert "State: running" in said["summary"]["status"]
    assert isinstance(said["logs"]["logs"], list)
    assert (said["info"]["available"], said["host"]) == (True, {"host": "127.0.0.1"})
    assert (said["pullable"], said["absent"]) == ({"pullable": True}, {"pullable": False})
    assert said["stopped"] == {}
    assert (said["denied"], said["elsewhere"]) == (401, 400)
    assert (said["built"], said["ofBuild"]) == ({}, {"pullable": True})
    assert (said["unknown"], said["bad"]) == (404, 400)


async def test_what_a_container_writes_is_followed_and_resumed(svc: Svc, url: str) -> None:
    writes = svc.image.replace("/serves:", "/writes:")
    follow = {"since": "2020-01-01T00:00:00Z"}
    headers = {"Authorization": svc.http.headers["Authorization"]}
    await svc.run(image=writes, restartPolicy="no")
    id = (await svc.one())["id"]
    first = await _event(url, headers, follow | {"containerId": id, "contains": "one"})
    assert first["data"].keys() == {"id", "nodeId", "containerId", "createdAt", "content"}
    assert (first["id"], first["data"]["containerId"]) == (first["data"]["id"], id)
    assert "one" in first["data"]["content"]
    answer = await svc.ok("POST", "/logs", json={"containerId": id, "stream": "stdout"})
    assert answer["logs"][-1] == first["data"]
    resumed = headers | {"Last-Event-ID": first["id"]}
    later = await _event(url, resumed, {"containerId": id, "contains": "two"})
    assert later["id"] != first["id"]
    summary = await svc.ok("GET", "/container/summary", params={"name": svc.name, "lines": 1})
    assert summary["logs"].count("\n") <= 1


async def _event(url: str, headers: dict[str, str], query: dict[str, str]) -> dict[str, Any]:
    """The first one that comes."""
    found: dict[str, Any] = {}
    async with (
        httpx.AsyncClient(base_url=url, headers=headers, timeout=DEADLINE_S) as http,
        http.stream("GET", "/container-svc/logs/follow", params=query) as answer,
    ):
        assert answer.status_code == 200
        async for line in answer.aiter_lines():
            name, _, value = line.partition(": ")
            if name == "data":
                return found | {"data": json.loads(value)}
            if name == "id":
                found["id"] = value
    raise AssertionError("the stream ended without an event")
