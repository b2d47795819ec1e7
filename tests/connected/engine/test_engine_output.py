"""Output and files of containers on a real engine."""

from __future__ import annotations

import asyncio
import io
import tarfile
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import docker
import pytest

from pipeline.adapters.engine.docker import DockerEngine
from pipeline.errors import ContainerMissing, PathMissing
from tests.support.archives import images
from tests.support.engines.engine import IMAGE, Launch, output_of


async def test_output_comes_by_stream_with_its_time(engine: DockerEngine, started: Launch) -> None:
    before = datetime.now(UTC)
    id = await started(command=images.prints("one", "two", stderr=["oops"]))
    lines = [line async for line in engine.logs(id, tail=None, since=None, follow=True)]
    assert [line.text for line in lines if line.stream == "stdout"] == ["one\n", "two\n"]
    assert [line.text for line in lines if line.stream == "stderr"] == ["oops\n"]
    assert all(before <= line.time <= datetime.now(UTC) for line in lines)
    assert all(line.time_ns // 1000 % 10**6 == line.time.microsecond for line in lines)


async def test_output_is_read_from_its_end_or_from_a_moment(
    engine: DockerEngine, started: Launch
) -> None:
    id = await started(command=("sh", "-c", "for n in 1 2 3; do echo $n; sleep 0.1; done"))
    every = [line async for line in engine.logs(id, tail=None, since=None, follow=True)]
    tail = [line async for line in engine.logs(id, tail=2, since=None, follow=False)]
    assert [line.text for line in tail] == ["2\n", "3\n"]
    later = engine.logs(id, tail=None, since=every[1].time, follow=False)
    assert [line.text async for line in later] == ["2\n", "3\n"]
    none = engine.logs(id, tail=0, since=None, follow=False)
    assert [line async for line in none] == []


async def test_a_long_line_comes_in_chunks_that_join(engine: DockerEngine, started: Launch) -> None:
    id = await started(command=("sh", "-c", "head -c 50000 /dev/zero; echo"))
    assert await output_of(engine, id) == "\0" * 50_000 + "\n"


async def test_followed_output_comes_as_it_is_written_and_stops_when_nobody_reads(
    engine: DockerEngine, started: Launch
) -> None:
    id = await started(command=("sh", "-c", "while :; do echo tick; sleep 0.1; done"))
    async with aclosing(engine.logs(id, tail=None, since=None, follow=True)) as lines:
        seen = [await anext(lines) for _ in range(3)]
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert {line.text for line in seen} == {"tick\n"}
    assert seen[2].time - seen[0].time > timedelta(milliseconds=100)


async def test_the_output_of_a_terminal_is_read(
    engine: DockerEngine, make: Launch, images_host: str, run: str
) -> None:
    def create() -> str:
        client = docker.APIClient(base_url=images_host, version="1.41")
        try:
            command = ["sh", "-c", "echo one; echo two >&2"]
            labels = {"test.run": run}
            made = client.create_container(IMAGE, command, tty=True, labels=labels)
            return str(made["Id"])
        finally:
            client.close()

    id = await asyncio.to_thread(create)
    await engine.start(id)
    assert await output_of(engine, id) == "one\r\ntwo\r\n"


async def test_output_of_nobody_is_told(engine: DockerEngine) -> None:
    with pytest.raises(ContainerMissing):
        await output_of(engine, "t-none")


async def test_files_go_in_and_come_out(engine: DockerEngine, make: Launch) -> None:
    id = await make()
    content = bytes(range(256)) * 4096
    await engine.copy_in(id, "/www", pieces_of(tar_of("model.bin", content)))
    out = b"".join([piece async for piece in engine.copy_out(id, "/www/model.bin")])
    with tarfile.open(fileobj=io.BytesIO(out)) as tar:
        member = tar.extractfile("model.bin")
        assert member is not None
        assert member.read() == content


async def test_a_path_that_is_not_there_is_told_from_a_missing_container(
    engine: DockerEngine, make: Launch
) -> None:
    id = await make()
    with pytest.raises(PathMissing):
        await anext(engine.copy_out(id, "/none"))
    with pytest.raises(PathMissing):
        await engine.copy_in(id, "/none", pieces_of(tar_of("a", b"b")))
    with pytest.raises(ContainerMissing):
        await anext(engine.copy_out("t-none", "/none"))


def tar_of(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return file.getvalue()


async def pieces_of(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 65_536):
        yield content[start : start + 65_536]
