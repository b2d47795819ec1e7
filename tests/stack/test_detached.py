"""The talk between `up --detach` and what it leaves running."""

import sys
from pathlib import Path

import pytest

from pipeline.errors import Misconfigured
from pipeline.stack.detached import start_detached

SPEAKER = """
import sys
from pipeline.stack.detached import Notifier
parent = Notifier(int(sys.argv[-1]))
"""


def start(script: str, log: Path, reports: list[str]) -> dict[str, str]:
    return start_detached([sys.executable, "-c", SPEAKER + script], log=log, report=reports.append)


def test_progress_is_heard_and_then_the_facts(tmp_path: Path) -> None:
    reports: list[str] = []
    script = "parent.report('nats is ready'); parent.ready({'A': 'b'}); parent.report('too late')"
    assert start(script, tmp_path / "log", reports) == {"A": "b"}
    assert reports == ["nats is ready"]


def test_a_failure_comes_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="Port 4222 is taken"):
        start("parent.failed('Port 4222 is taken')", tmp_path / "log", [])


def test_a_sudden_end_is_explained_by_the_log(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"supervisor\.log says: .*fatal: out of memory"):
        start("sys.exit('fatal: out of memory')", tmp_path / "supervisor.log", [])


def test_a_stack_whose_starter_has_gone_runs_on(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = """
import os
reading, writing = os.pipe()
alone = Notifier(writing)
os.close(reading)
alone.report("nobody listens")
alone.ready({})
parent.ready({"survived": "yes"})
"""
    assert start(script, log, []) == {"survived": "yes"}
