"""`modelyard images push` as a person runs it, over connections that break."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from pipeline.settings import Settings
from tests.connected.archives.test_ingest import run
from tests.support.archives.archive_layouts import skopeo_docker_archive
from tests.support.archives.image_archives import docker_archive
from tests.support.archives.images import TinyImage, busybox_image, prints
from tests.support.http.api_process import ORG, ROOT, ApiProcess, api_process, log_in
from tests.support.registries.cutting_proxy import CuttingProxy
from tests.support.registries.registry_files import RegistryFiles
from tests.support.waiting import eventually

LARGE = 6_000_000
DONE, FAILED, USAGE = 0, 1, 2


def an_image(seed: int) -> TinyImage:
    return busybox_image(command=prints("pushed"), random_layers=(LARGE,), seed=seed)


class Command:
    """`modelyard` with a cache of its own."""

    def __init__(self, url: str, token: str, cache: Path) -> None:
        self.env = {
            "MODELYARD_URL": url,
            "MODELYARD_TOKEN": token,
            "XDG_CACHE_HOME": str(cache),
            "PATH": "/usr/bin:/bin",
            "NO_COLOR": "1",
            "COLUMNS": "200",
        }

    async def push(self, *arguments: str, input: bytes | None = None) -> tuple[int, str, str]:
        process = await self.start(*arguments, piped=input is not None)
        out, said = await asyncio.wait_for(process.communicate(input), 60)
        assert process.returncode is not None
        return process.returncode, out.decode(), said.decode()

    async def start(self, *arguments: str, piped: bool = False) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cli.main", "images", "push", *arguments,
            env=self.env, cwd=ROOT, stdin=asyncio.subprocess.PIPE if piped else None,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip


@pytest.fixture
async def token(http: httpx.AsyncClient) -> str:
    answer = await http.post("/yard/v1/tokens", json={"name": "cli", "role": "member"})
    return str(answer.json()["token"])


@pytest.fixture
def command(api: ApiProcess, token: str, tmp_path: Path) -> Command:
    return Command(api.url, token, tmp_path / "cache")


@pytest.fixture
async def proxy(api: ApiProcess) -> AsyncIterator[CuttingProxy]:
    async with CuttingProxy(api.settings.api_port, []).running() as proxy:
        yield proxy


async def test_a_file_is_pushed_and_runs(
    command: Command, api: ApiProcess, tmp_path: Path, docker_host: str
) -> None:
    archive = tmp_path / "image.tar"
    archive.write_bytes(docker_archive(an_image(41), "team/pushed:1"))
    code, out, said = await command.push(str(archive))
    assert code == DONE, said
    name, _, digest = out.strip().partition("@")
    assert name == "team/pushed:1"
    place = f"{api.settings.registry}/images/{ORG}/team/pushed"
    assert await run(docker_host, f"{place}@{digest}") == "pushed"
    assert not list((tmp_path / "cache").rglob("uploads/*"))


async def test_standard_input_is_pushed(command: Command, tmp_path: Path) -> None:
    archive = docker_archive(an_image(42), "team/piped:1")
    code, out, said = await command.push("-", "--json", "--name", "piped", input=archive)
    assert code == DONE, said
    assert json.loads(out)["image"]["reference"].endswith("/piped:1")
    assert not list((tmp_path / "cache").rglob("stdin-*"))


@pytest.mark.parametrize(
    "layout",
    [
        lambda image: docker_archive(image, "team/again:1"),
        lambda image: docker_archive(image, "team/again:1", layout="modern"),
        lambda image: skopeo_docker_archive(image, "team/again:1"),
    ],
    ids=["legacy", "modern", "skopeo"],
)
async def test_what_is_there_is_not_sent_again(
    layout: Callable[[TinyImage], bytes], command: Command, tmp_path: Path, proxy: CuttingProxy
) -> None:
    archive = tmp_path / "again.tar"
    archive.write_bytes(layout(an_image(43)))
    code, first, said = await command.push(str(archive), "--json")
    assert code == DONE, said
    command.env["MODELYARD_URL"] = f"http://127.0.0.1:{proxy.port}"
    code, again, said = await command.push(str(archive), "--json")
    assert code == DONE, said
    assert json.loads(again)["image"] == json.loads(first)["image"]
    assert proxy.sent < 100_000
    assert "were there and were not sent" in said


async def test_cuts_are_gone_on_from(command: Command, tmp_path: Path, proxy: CuttingProxy) -> None:
    archive = tmp_path / "cut.tar"
    archive.write_bytes(docker_archive(an_image(44), "team/cut:1"))
    proxy.cuts += [2_500_000, 1_500_000, 700_000]
    command.env["MODELYARD_URL"] = f"http://127.0.0.1:{proxy.port}"
    code, _, said = await command.push(str(archive))
    assert code == DONE, said
    assert proxy.broken == 3
    # The small layer that all test images share may be there already.
    assert LARGE < proxy.sent < archive.stat().st_size + 400_000


async def test_another_run_goes_on_with_what_an_interrupted_one_sent(
    command: Command, tmp_path: Path, proxy: CuttingProxy
) -> None:
    archive = tmp_path / "interrupted.tar"
    archive.write_bytes(docker_archive(an_image(45), "team/interrupted:1"))
    size = archive.stat().st_size
    command.env["MODELYARD_URL"] = f"http://127.0.0.1:{proxy.port}"
    proxy.cuts += [3_000_000] + [2_000] * 100
    first = await command.start(str(archive))
    await eventually(lambda: proxy.sent >= 3_000_000)
    first.send_signal(signal.SIGINT)
    await first.communicate()
    proxy.cuts.clear()
    before = proxy.sent
    code, _, said = await command.push(str(archive))
    assert code == DONE, said
    assert proxy.sent - before < size - 2_500_000


async def test_a_restart_of_the_server_is_survived(
    api_settings: Callable[..., Settings], archive_nats: str, tmp_path: Path
) -> None:
    archive = tmp_path / "restart.tar"
    archive.write_bytes(docker_archive(an_image(46), "team/restart:1"))
    async with api_process(api_settings(archive_nats)) as own:
        async with httpx.AsyncClient(base_url=own.url, timeout=30) as http:
            token = await log_in(http)
        cut = CuttingProxy(own.settings.api_port, [3_000_000])
        async with cut.running():
            command = Command(f"http://127.0.0.1:{cut.port}", token, tmp_path / "cache")
            pushing = asyncio.create_task(command.push(str(archive)))
            await eventually(lambda: cut.broken > 0)
            await own.stop(signal.SIGKILL)
            await own.start()
            code, _, said = await pushing
    assert code == DONE, said


async def test_a_refusal_says_why(command: Command, tmp_path: Path, files: RegistryFiles) -> None:
    archive = tmp_path / "bad.tar"
    archive.write_bytes(docker_archive(an_image(47), "team/bad:1")[:-100_000])
    code, out, said = await command.push(str(archive))
    assert (code, out) == (FAILED, "")
    assert "Refused: The archive ends early" in said
    assert files.tags("images/acme/team/bad") == []


async def test_what_is_no_archive_is_sent_as_it_is_and_refused(
    command: Command, tmp_path: Path
) -> None:
    archive = tmp_path / "text"
    archive.write_bytes(b"no archive")
    code, _, said = await command.push(str(archive))
    assert code == FAILED
    assert "not a TAR" in said


async def test_a_file_that_is_not_there_is_a_usage_error(command: Command) -> None:
    code, _, said = await command.push("nowhere.tar")
    assert code == USAGE
    assert "There is no file" in said


async def test_an_unknown_model_is_said_before_anything_is_sent(
    command: Command, tmp_path: Path
) -> None:
    archive = tmp_path / "model.tar"
    archive.write_bytes(docker_archive(an_image(48), "team/model:1"))
    code, _, said = await command.push(str(archive), "--model", "abcdefghij", "--version", "1.0.0")
    assert code == 3, said
