"""Real processes, small ones."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pipeline.errors import Misconfigured
from pipeline.stack.processes import probes
from pipeline.stack.processes.process import Owner, Process, cap, rotate, telling_line
from tests.support.processes import owner_of, tag_of

STUBBORN = ["sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 60; done"]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "it.log"


@pytest.fixture
async def sleeper(log: Path) -> AsyncIterator[Process]:
    process = Process(log)
    process.spawn(["sleep", "60"])
    yield process
    await process.kill()


async def wrote(log: Path, text: str) -> bool:
    async def there() -> bool:
        return text in log.read_text()

    return await probes.until(there, timeout_s=10)


async def test_output_of_both_kinds_goes_to_the_end_of_the_log(log: Path) -> None:
    for word in ("first", "second"):
        process = Process(log)
        process.spawn(["sh", "-c", f"echo {word}; echo {word} >&2"])
        await process.wait()
    assert log.read_text().split() == ["first", "first", "second", "second"]


async def test_it_gets_the_environment_that_it_was_given(log: Path) -> None:
    env = {"PATH": os.environ["PATH"], "ONLY": "this"}
    process = Process(log)
    process.spawn(["sh", "-c", "echo $ONLY$HOME"], env)
    await process.wait()
    assert log.read_text() == "this\n"


async def test_the_exit_code_is_that_of_the_command(log: Path) -> None:
    process = Process(log)
    assert process.exit_code is None
    process.spawn(["sh", "-c", "exit 7"])
    await process.wait()
    assert (process.exit_code, process.running) == (7, False)


async def test_stop_is_polite_first_and_idempotent(sleeper: Process) -> None:
    await sleeper.terminate(grace_s=10)
    assert sleeper.exit_code == -signal.SIGTERM
    await sleeper.terminate(grace_s=10)


async def test_who_does_not_listen_is_killed(log: Path) -> None:
    process = Process(log)
    process.spawn(STUBBORN)
    assert await wrote(log, "deaf")
    await process.terminate(grace_s=0.1)
    assert process.exit_code == -signal.SIGKILL


async def test_a_paused_process_can_be_stopped(sleeper: Process) -> None:
    sleeper.signal(signal.SIGSTOP)
    await sleeper.terminate(grace_s=10)
    assert not sleeper.running


def test_a_process_that_was_not_started_has_no_number(log: Path) -> None:
    process = Process(log)
    assert not process.running
    process.signal(signal.SIGTERM)
    assert process.pid is None


def test_a_missing_program_is_an_error_that_names_it(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Misconfigured, match="setpriv is missing: run `make setup`"):
        Process(log).spawn(["true"])


PARENT = """
import sys, time
from pathlib import Path
from pipeline.stack.processes.process import Process
child = Process(Path(sys.argv[1]))
child.spawn(["sleep", "600"])
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


def test_this_process_is_alive_and_survives_the_way_through_its_tag() -> None:
    me = Owner.me()
    assert me.alive
    assert owner_of(tag_of(me)) == me


def test_a_later_process_with_the_same_number_is_somebody_else() -> None:
    me = Owner.me()
    assert not Owner(me.pid, me.started - 1).alive


def test_a_process_that_ended_is_not_alive_even_before_it_is_collected() -> None:
    child = subprocess.Popen(["sleep", "60"])
    owner = Owner.of(child.pid)
    assert owner.alive
    child.kill()
    assert child.stdout is None
    child.wait()
    assert not owner.alive


def test_text_that_is_no_tag_belongs_to_nobody() -> None:
    for text in ("", "lost+found", "12", "12-x"):
        assert not owner_of(text).alive


def test_a_log_that_grew_too_long_is_moved_aside_and_its_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "nats.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"x" * 100)
        cap(log, 50)
        writer.write(b"new")
    assert log.read_bytes() == b"new"
    assert (tmp_path / "nats.log.1").read_bytes() == b"x" * 100


def test_a_short_log_stays(tmp_path: Path) -> None:
    log = tmp_path / "nats.log"
    log.write_text("short")
    cap(log, 50)
    assert log.read_text() == "short"
    assert not (tmp_path / "nats.log.1").exists()


async def test_all_logs_of_a_folder_are_kept_small_until_cancelled(tmp_path: Path) -> None:
    log = tmp_path / "nats.log"
    log.write_text("x" * 100)
    keeper = asyncio.create_task(rotate(tmp_path, max_bytes=50))
    await asyncio.sleep(0)
    assert log.read_text() == ""
    keeper.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeper


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ""),
        ("starting\n[FTL] cannot open store\nbye\n", "[FTL] cannot open store"),
        ("panic: bad config\n\tmain.go:22\n", "panic: bad config"),
        ("one\ntwo\n", "two"),
    ],
)
def test_the_last_words_tell_why_a_program_ended(tmp_path: Path, text: str, words: str) -> None:
    log = tmp_path / "x.log"
    log.write_text(text)
    assert telling_line(log) == words


def test_a_program_that_wrote_nothing_has_no_telling_line(tmp_path: Path) -> None:
    assert telling_line(tmp_path / "absent.log") == ""
