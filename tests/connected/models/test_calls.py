"""Calls that are passed on to containers on a real node."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.stack.pieces.app import ApiPiece
from tests.connected.models.conftest import Models
from tests.connected.models.test_serve import loaded, run, shut_down
from tests.support.models.models_door import Door
from tests.support.systems.system import System
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("no_containers_stay")

PORT = {"env": {"PSC_MODEL_PORT": "8080"}, "ports": [{"internal": 8080}]}


async def started(system: System, api: ApiPiece, image: str, **spec: Any) -> str:
    """uuid of a running container that nobody but its owner asked for."""
    await system.image(api, image)
    container = await system.run(api, image, restart="no", **spec)
    assert container["status"] == "RUNNING", container
    return str(container["uuid"])


async def call(system: System, api: ApiPiece, uuid: str, body: bytes = b"{}") -> httpx.Response:
    return await system.call(api, "POST", f"/containers/{uuid}/run", content=body)


async def by_command(
    system: System, api: ApiPiece, uuid: str, data: str
) -> tuple[int | None, bytes]:
    """Exit code and output of `modelyard containers call`."""
    token = system.http.headers["Authorization"].partition(" ")[2]
    place = {"MODELYARD_URL": f"http://127.0.0.1:{api.port}", "MODELYARD_TOKEN": token}
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", "containers", "call", uuid, "--data", data),
        env=os.environ | place,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await child.communicate()
    return child.returncode, said


async def remove(system: System, api: ApiPiece, uuid: str) -> None:
    answer = await system.call(api, "DELETE", f"/containers/{uuid}", params={"wait": 20})
    assert answer.json()["status"] == "DELETED", answer.text


async def test_a_container_is_called_from_start_to_stop(
    models_system: System, api: ApiPiece, models: Models, tmp_path: Path
) -> None:
    image = models(RUN_TYPE="text/x-echo", RUN_CODE="202")
    uuid = await started(models_system, api, image, **PORT)
    body = b"anything at all: \xc3\xa4"

    async def listens() -> bool:
        return (await call(models_system, api, uuid)).status_code != 502

    await eventually(listens)
    answer = await call(models_system, api, uuid, body)
    assert (answer.status_code, answer.content) == (202, body)
    assert answer.headers["content-type"] == "text/x-echo"
    file = tmp_path / "body"
    file.write_bytes(body)
    assert await by_command(models_system, api, uuid, f"@{file}") == (0, body)
    await models_system.call(api, "POST", f"/containers/{uuid}/stop", params={"wait": 20})
    stopped = await call(models_system, api, uuid)
    assert (stopped.status_code, stopped.json()["code"]) == (409, "conflict")
    assert "STOPPED" in stopped.json()["detail"]
    await remove(models_system, api, uuid)
    assert (await call(models_system, api, uuid)).status_code == 404


async def test_a_container_in_which_nothing_listens_is_told_so(
    models_system: System, api: ApiPiece, models: Models
) -> None:
    claimed = {"model.purpose": "serve", "model.identifier": "nobody"}
    uuid = await started(models_system, api, models(DEAF="1"), **PORT, labels=claimed)
    answer = await call(models_system, api, uuid)
    # The engine may take the connection itself before it finds nobody behind the port.
    assert answer.status_code == 502
    assert answer.json()["code"] in ("container_not_listening", "container_bad_answer")
    assert "port 8080" in answer.json()["detail"]
    await remove(models_system, api, uuid)


async def test_the_container_of_a_version_is_used_when_it_is_called(
    door: Door, well: str, models_system: System, api: ApiPiece
) -> None:
    made = await loaded(door, well)
    await run(made)
    (container,) = (await models_system.get(api, "/containers?status=RUNNING"))["items"]
    answer = await call(models_system, api, container["uuid"], b'{"by": "id"}')
    assert answer.json() == {"by": "id"}
    await shut_down(made)
