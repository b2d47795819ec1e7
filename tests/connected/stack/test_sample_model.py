"""The sample model as an image: built without pulling, run by a real engine."""

from __future__ import annotations

import base64
import json
import struct
import uuid
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.stack.pieces import sample_model
from tests.support.commands import run
from tests.support.waiting import eventually

# Where the cache of this machine is cold, the image is built first.
pytestmark = pytest.mark.timeout(400)

PORT = 9123
SOURCE = Path(__file__).read_text()


def png(width: int, height: int) -> bytes:
    """A grey picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\x80" * width) * height)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


class Model:
    """One running container of the image."""

    def __init__(self, docker_host: str, name: str) -> None:
        self.name = name
        self._env = {"DOCKER_HOST": docker_host}
        self.http = httpx.AsyncClient(timeout=10)

    async def docker(self, *arguments: str | Path) -> str:
        return (await run("docker", *arguments, env=self._env)).strip()

    async def start(self, image: str) -> None:
        publish = f"127.0.0.1::{PORT}"
        setting = f"PSC_MODEL_PORT={PORT}"
        await self.docker("run", "-d", "--name", self.name, "-p", publish, "-e", setting, image)
        address = await self.docker("port", self.name, f"{PORT}/tcp")
        self.http.base_url = httpx.URL(f"http://{address}")
        await eventually(self.answers, timeout_s=30)

    async def answers(self) -> bool:
        try:
            return (await self.http.get("/status")).status_code == 200
        except httpx.TransportError:
            return False

    async def run(self, request: dict[str, Any]) -> Any:
        answer = await self.http.post("/run", json=request)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def state(self, field: str) -> str:
        return await self.docker("inspect", "-f", f"{{{{.State.{field}}}}}", self.name)


@pytest.fixture(scope="session")
async def tar(docker_host: str) -> Path:
    return await sample_model.build(docker_host, report=print)


@pytest.fixture(scope="session")
async def image(docker_host: str, tar: Path) -> AsyncIterator[str]:
    env = {"DOCKER_HOST": docker_host}
    loaded = await run("docker", "load", "-q", "-i", tar, env=env)
    name = loaded.removeprefix("Loaded image:").strip()
    yield name
    await run("docker", "image", "rm", "-f", name, env=env)


@pytest.fixture
async def model(docker_host: str, image: str) -> AsyncIterator[Model]:
    model = Model(docker_host, f"sample-{uuid.uuid4().hex[:8]}")
    try:
        await model.start(image)
        yield model
    finally:
        await model.http.aclose()
        await model.docker("rm", "-f", model.name)


async def test_it_tells_a_program_from_a_picture(model: Model) -> None:
    program = await model.run({"text": SOURCE})
    assert (program["label"], program["group"], program["is_text"]) == ("python", "code", True)
    picture = await model.run({"data_base64": base64.b64encode(png(40, 30)).decode()})
    assert (picture["label"], picture["mime_type"]) == ("png", "image/png")
    assert min(program["score"], picture["score"]) > 0.8


async def test_files_put_into_the_container_are_classified_there(
    model: Model, tmp_path: Path
) -> None:
    (tmp_path / "input").write_bytes(png(8, 8))
    # The model is not root.
    tmp_path.chmod(0o755)
    await model.docker("cp", tmp_path, f"{model.name}:/tmp/job")
    request = {"type": "file", "input": "/tmp/job", "output": "/tmp/results"}
    assert (await model.run(request))["input"]["label"] == "png"
    await model.docker("cp", f"{model.name}:/tmp/results/results.json", tmp_path)
    written = json.loads((tmp_path / "results.json").read_text())
    assert written["input"]["label"] == "png"


async def test_status_is_json_and_the_health_check_agrees(model: Model) -> None:
    answer = await model.http.get("/status")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["model"].startswith("magika ")

    async def healthy() -> bool:
        return await model.state("Health.Status") == "healthy"

    await eventually(healthy, timeout_s=20)


async def test_shutdown_ends_the_container(model: Model) -> None:
    assert (await model.http.post("/shutdown")).status_code == 200
    assert await model.docker("wait", model.name) == "0"


async def test_sigterm_ends_it_at_once(model: Model) -> None:
    await model.docker("stop", "--time", "20", model.name)
    # 137 would be the kill after the grace period.
    assert await model.state("ExitCode") == "0"


async def test_it_needs_neither_root_nor_a_writable_image(docker_host: str, image: str) -> None:
    env = {"DOCKER_HOST": docker_host}
    options = ("--rm", "--read-only", "--cap-drop", "ALL", "--network", "none")
    script = "import os, sample_model.classifier as c; print(os.getuid(), c.Classifier().name)"
    said = await run("docker", "run", *options, image, "python3", "-c", script, env=env)
    assert said.split()[:2] == ["10001", "magika"]


async def test_a_second_build_takes_the_tar_from_the_cache(tar: Path) -> None:
    nowhere = "unix:///nonexistent/docker.sock"
    assert await sample_model.build(nowhere, report=print) == tar
