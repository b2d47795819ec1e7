import asyncio
from pathlib import Path

import pytest

from pipeline.errors import Misconfigured
from pipeline.stack.pieces import sample_model
from pipeline.stack.processes.process import Owner
from tests.support.waiting import eventually


def script(folder: Path, *lines: str) -> Path:
    file = folder / "build.sh"
    file.write_text("\n".join(["#!/bin/sh", *lines]))
    file.chmod(0o755)
    return file


async def test_the_path_is_returned_and_the_rest_is_reported(tmp_path: Path) -> None:
    said: list[str] = []
    lines = ('echo "engine $DOCKER_HOST" >&2', "echo built >&2", "echo /cache/image.tar")
    tar = await sample_model.build(
        "unix:///engine", report=said.append, script=script(tmp_path, *lines)
    )
    assert tar == Path("/cache/image.tar")
    assert said == ["engine unix:///engine", "built"]


async def test_a_failed_build_is_quoted(tmp_path: Path) -> None:
    failing = script(tmp_path, "echo no space left on device >&2", "exit 3")
    with pytest.raises(Misconfigured, match="no space left on device"):
        await sample_model.build("", report=lambda _line: None, script=failing)


async def test_without_the_source_it_says_where_to_run_it(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="checkout"):
        await sample_model.build("", report=lambda _line: None, script=tmp_path / "absent")


async def test_the_script_that_ships_is_found() -> None:
    assert sample_model.SCRIPT.stat().st_mode & 0o111


async def test_cancelling_ends_the_script_and_what_it_runs(tmp_path: Path) -> None:
    pids: list[int] = []
    endless = script(tmp_path, "sleep 600 & echo $! >&2", "wait")
    building = asyncio.create_task(
        sample_model.build("", report=lambda line: pids.append(int(line)), script=endless)
    )
    await eventually(lambda: bool(pids))
    child = Owner.of(pids[0])
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building
    await eventually(lambda: not child.alive)
