"""Commands in containers, on a real engine: what they write, how they end, and that they do."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import TypeAdapter

from pipeline.adapters.engine import threads
from pipeline.adapters.engine.docker import DockerEngine
from pipeline.agent import exec as exec_module
from pipeline.agent.exec import Exec
from pipeline.containers.agent_requests import ExecEnd, ExecEntry, ExecRequest, ExecSpec
from pipeline.errors import Overloaded, StartFailed, YardError
from tests.support.engines.engine import Launch
from tests.support.waiting import eventually

ENTRY: TypeAdapter[ExecEntry] = TypeAdapter(ExecEntry)
IDLE = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.2; done")


def run(engine: DockerEngine, id: str, *command: str, **spec: Any) -> Any:
    reconciler = cast(Any, SimpleNamespace(engine=engine, inspect=engine.inspect))
    request = ExecRequest(container=id, spec=ExecSpec(command=list(command), **spec))
    return Exec(reconciler).run(request.model_dump_json().encode())


async def done(engine: DockerEngine, id: str, *command: str, **spec: Any) -> tuple[str, str, Any]:
    """Standard output, standard error and the end."""
    said, end = {"stdout": "", "stderr": ""}, None
    async with asyncio.timeout(30):
        async for chunk in run(engine, id, *command, **spec):
            entry = ENTRY.validate_json(chunk)
            if isinstance(entry, ExecEnd):
                end = entry
            else:
                said[entry.stream] += entry.text
    return said["stdout"], said["stderr"], end


async def is_running(engine: DockerEngine, id: str, word: str) -> bool:
    """Whether a process of the container has these words in its command line."""
    listed, _, _ = await done(engine, id, "sh", "-c", "cat /proc/[0-9]*/cmdline")
    return word.replace(" ", "\0") in listed


async def test_both_outputs_and_the_exit_code_are_told(
    engine: DockerEngine, started: Launch
) -> None:
    id = await started(command=IDLE)
    script = 'echo "$GREETING from $(pwd)"; echo oops >&2; exit 7'
    out, err, end = await done(
        engine, id, "sh", "-c", script, env={"GREETING": "hello"}, working_dir="/bin"
    )
    assert (out, err) == ("hello from /bin\n", "oops\n")
    assert (end.exit_code, end.timed_out) == (7, False)
    much, _, end = await done(engine, id, "sh", "-c", "seq 200000")
    assert (much.count("\n"), end.exit_code) == (200000, 0)


async def test_what_cannot_be_started_says_why(engine: DockerEngine, started: Launch) -> None:
    id = await started(command=IDLE)
    out, err, end = await done(engine, id, "/no/such/program")
    assert "/no/such/program" in out + err
    assert end.exit_code in (126, 127)
    await engine.stop(id, grace_s=1)
    with pytest.raises(YardError, match="not running"):
        await done(engine, id, "true")


async def test_one_whose_time_is_over_is_killed_with_all_that_it_started(
    engine: DockerEngine, started: Launch
) -> None:
    id = await started(command=IDLE)
    script = "echo begun; sleep 4711 & sleep 4712"
    out, _, end = await done(engine, id, "sh", "-c", script, timeout_s=0.5)
    assert (out, end.timed_out) == ("begun\n", True)
    assert not await is_running(engine, id, "sleep 471")
    found = await engine.inspect(id)
    assert found is not None
    assert found.running


async def test_one_is_killed_also_when_every_stream_of_the_engine_is_in_use(
    engine: DockerEngine, started: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = await started(command=IDLE)
    with monkeypatch.context() as patch:
        patch.setitem(threads._THREADS, "streams", 1)
        _, _, end = await done(engine, id, "sleep", "4711", timeout_s=0.5)
    assert end.timed_out
    assert not await is_running(engine, id, "sleep 4711")


async def test_what_kills_is_not_waited_for_without_end(
    engine: DockerEngine, started: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = await started(command=IDLE)
    monkeypatch.setattr(exec_module, "KILL", "sleep 4713")
    monkeypatch.setattr(exec_module, "END_S", 0.2)
    with pytest.raises(StartFailed, match="could not be killed"):
        await done(engine, id, "sleep", "4711", timeout_s=0.2)


async def test_one_command_too_many_on_a_node_is_refused(
    engine: DockerEngine, started: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = await started(command=IDLE)
    monkeypatch.setattr(exec_module, "MOST", 0)
    with pytest.raises(Overloaded, match="run on this node already"):
        await done(engine, id, "true")


async def test_one_whose_reader_leaves_is_killed(engine: DockerEngine, started: Launch) -> None:
    id = await started(command=IDLE)
    async with aclosing(run(engine, id, "sh", "-c", "echo begun; sleep 4711")) as entries:
        await anext(entries)
        assert await is_running(engine, id, "sleep 4711")
    assert not await is_running(engine, id, "sleep 4711")
    async with aclosing(run(engine, id, "yes")) as entries:
        await anext(entries)
    assert not await is_running(engine, id, "yes")


async def test_a_silent_one_whose_reader_is_cut_off_is_killed(
    engine: DockerEngine, started: Launch
) -> None:
    id = await started(command=IDLE)
    reading = asyncio.create_task(done(engine, id, "sleep", "4711"))
    await eventually(lambda: is_running(engine, id, "sleep 4711"), timeout_s=20)
    reading.cancel()
    await asyncio.wait([reading])

    async def is_gone() -> bool:
        return not await is_running(engine, id, "sleep 4711")

    await eventually(is_gone, timeout_s=20)
