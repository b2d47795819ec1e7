"""Builds on a real engine."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from pipeline.adapters.engine.docker import DockerEngine
from pipeline.build_ports import BuildPlan
from pipeline.errors import BuildFailed, ImageMissing, TooLarge

LABEL = "test.build"


class Bench:
    """Builds of one test, of a folder of its own."""

    def __init__(self, engine: DockerEngine, folder: Path) -> None:
        self.engine, self.run = engine, uuid.uuid4().hex
        self.repository = f"test-build-{self.run}"
        self.context = folder / "context"
        self.context.mkdir()
        shell = self.context / "sh"
        shell.write_bytes(Path("/bin/busybox").read_bytes())
        shell.chmod(0o755)
        self._scratch = folder

    def plan(self, *steps: str, tag: str = "1", **values: object) -> BuildPlan:
        begin = ("FROM scratch", f"LABEL {LABEL}={self.run}", "COPY sh /bin/sh")
        text = "\n".join((*begin, *steps))
        given = {"tag": f"{self.repository}:{tag}", "scratch": self._scratch, "dockerfile": text}
        return BuildPlan(context=self.context, **{**given, **values})  # type: ignore[arg-type]

    async def build(self, *steps: str, **values: object) -> str:
        plan = self.plan(*steps, **values)  # type: ignore[arg-type]
        async with aclosing(self.engine.build(plan)) as said:
            return "".join([text async for text in said])

    async def remnants(self) -> list[str]:
        found = await self.engine.remnants(LABEL)
        return [each.id for each in found if each.labels[LABEL] == self.run]


@pytest.fixture
async def bench(engine: DockerEngine, tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(engine, tmp_path)
    yield bench
    for tag in await engine.tags(bench.repository):
        await engine.remove_image(f"{bench.repository}:{tag}")
    for left in await bench.remnants():
        await engine.remove_image(left)


async def test_a_folder_becomes_an_image_that_can_be_saved_and_removed(bench: Bench) -> None:
    (bench.context / ".dockerignore").write_text("*.bin\n!kept.bin\n")
    for name in ("left.bin", "kept.bin"):
        (bench.context / name).write_text(name)
    said = await bench.build(
        "COPY . /ctx",
        "ARG WORD",
        "RUN test -e /ctx/kept.bin && test ! -e /ctx/left.bin && echo said: $WORD",
        args={"WORD": "hello"},
        memory_bytes=64 * 1024**2,
        cpus=1,
    )
    assert "said: hello" in said
    assert await bench.engine.tags(bench.repository) == ["1"]
    assert await bench.remnants() == []
    name = f"{bench.repository}:1"
    saved = b"".join([piece async for piece in bench.engine.save(name)])
    assert b"manifest.json" in saved
    for _ in range(2):
        await bench.engine.remove_image(name)
    assert await bench.engine.tags(bench.repository) == []
    with pytest.raises(ImageMissing):
        await anext(bench.engine.save(name))


async def test_what_a_failed_build_leaves_is_found_by_its_label(bench: Bench) -> None:
    with pytest.raises(BuildFailed, match="non-zero code: 3"):
        await bench.build("RUN echo a > /a", "RUN exit 3")
    (left,) = await bench.remnants()
    await bench.engine.remove_image(left)
    assert await bench.remnants() == []


async def test_what_cannot_be_packed_is_told(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(TooLarge):
        await bench.build(context_max_bytes=1024)
    (bench.context / "out").symlink_to(tmp_path)
    with pytest.raises(BuildFailed, match="leads out of the context"):
        await bench.build()
    (bench.context / "out").unlink()
    with pytest.raises(BuildFailed, match="unknown instruction"):
        await bench.build("BREAK it")
