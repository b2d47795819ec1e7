"""`containers run`, `down`, `up`: what should run runs again, on whichever engine."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.archives.image_archives import docker_archive
from tests.support.archives.images import busybox_image
from tests.support.systems.yard import Yard
from tests.support.waiting import eventually


@pytest.fixture(params=["private", "shared"])
def yard(request: pytest.FixtureRequest, tmp_path: Path, docker_host: str) -> Iterator[Yard]:
    yard = Yard(tmp_path / "state")
    if request.param == "shared":
        yard.set("DOCKER_HOST", docker_host)
    yield yard
    yard.run("down")


def up(yard: Yard) -> None:
    done = yard.run("up", "--detach", "--ports", "auto")
    assert done.returncode == 0, done.stderr


def answers(yard: Yard) -> bool:
    """It runs, and says so itself."""
    found = container(yard)
    if found["status"] != "RUNNING" or not found["ports"]:
        return False
    port = found["ports"][0]
    try:
        return httpx.get(f"http://{port['address']}:{port['host']}/").status_code == 200
    except httpx.TransportError:
        return False


def container(yard: Yard) -> dict[str, Any]:
    return dict(json.loads(yard.run("containers", "show", "kept").stdout))


async def test_what_should_run_runs_again_after_the_stack_was_stopped_or_killed(
    yard: Yard, tmp_path: Path
) -> None:
    archive = tmp_path / "model.tar"
    archive.write_bytes(docker_archive(busybox_image(), "team/model:1"))
    up(yard)
    assert yard.run("images", "push", str(archive), "--name", "model").returncode == 0
    ran = yard.run("containers", "run", "model", "--name", "kept", "--restart", "no")
    assert ran.returncode == 0, ran.stderr
    before = container(yard)

    yard.run("down")
    up(yard)
    await eventually(lambda: answers(yard), timeout_s=40)

    run = yard.state.run
    assert run is not None
    os.kill(run.supervisor.pid, signal.SIGKILL)
    up(yard)
    await eventually(lambda: answers(yard), timeout_s=40)
    assert container(yard)["uuid"] == before["uuid"]
