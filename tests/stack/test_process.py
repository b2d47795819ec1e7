"""Real processes, small ones."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pipeline.errors import Misconfigured
from pipeline.stack import probes
from pipeline.stack.owner import Owner
from pipeline.stack.process import Process

STUBBORN = ["sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 60; done"]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "it.log"


@pytest.fixture
async def sleeper(log: Path) -> AsyncIterator[Process]:
    process = Process(["sleep", "60"], log=log)
    process.start()
    yield process
    await process.kill()


async def wrote(log: Path, text: str) -> bool:
    async def there() -> bool:
        return text in log.read_text()

    return await probes.until(there, timeout_s=10)


async def test_output_of_both_kinds_goes_to_the_end_of_the_log(log: Path) -> None:
    for word in ("first", "second"):
        process = Process(["sh", "-c", f"echo {word}; echo {word} >&2"], log=log)
        process.start()
        await process.wait()
    assert log.read_text().split() == ["first", "first", "second", "second"]


async def test_it_gets_the_environment_that_it_was_given(log: Path) -> None:
    env = {"PATH": os.environ["PATH"], "ONLY": "this"}
    process = Process(["sh", "-c", "echo $ONLY$HOME"], log=log, env=env)
    process.start()
    await process.wait()
    assert log.read_text() == "this\n"


async def test_the_exit_code_is_that_of_the_command(log: Path) -> None:
    process = Process(["sh", "-c", "exit 7"], log=log)
    assert process.exit_code is None
    process.start()
    await process.wait()
    assert (process.exit_code, process.running) == (7, False)


async def test_stop_is_polite_first_and_idempotent(sleeper: Process) -> None:
    await sleeper.stop(grace_s=10)
    assert sleeper.exit_code == -signal.SIGTERM
    await sleeper.stop(grace_s=10)


async def test_who_does_not_listen_is_killed(log: Path) -> None:
    process = Process(STUBBORN, log=log)
    process.start()
    assert await wrote(log, "deaf")
    await process.stop(grace_s=0.1)
    assert process.exit_code == -signal.SIGKILL


async def test_a_paused_process_can_be_stopped(sleeper: Process) -> None:
    sleeper.signal(signal.SIGSTOP)
    await sleeper.stop(grace_s=10)
    assert not sleeper.running


def test_a_process_that_was_not_started_has_no_number(log: Path) -> None:
    process = Process(["true"], log=log)
    assert not process.running
    process.signal(signal.SIGTERM)
    with pytest.raises(Misconfigured, match="not started"):
        _ = process.pid


PARENT = """
import sys, time
from pathlib import Path
from pipeline.stack.process import Process
child = Process(["sleep", "600"], log=Path(sys.argv[1]))
child.start()
print(child.pid, flush=True)
time.sleep(600)
"""


def orphan(log: Path) -> Owner:
    """The child of a process that was killed a moment ago."""
    command = [sys.executable, "-c", PARENT, str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = Owner.of(int(parent.stdout.readline()))
        assert child.alive
        parent.kill()
    return child


async def test_nothing_outlives_a_parent_that_was_killed(log: Path) -> None:
    child = orphan(log)

    async def gone() -> bool:
        return not child.alive

    assert await probes.until(gone, timeout_s=10)
