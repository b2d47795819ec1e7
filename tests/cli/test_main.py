"""The command line as a whole."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from cli.console import FAILED, USAGE
from cli.main import app
from pipeline.errors import every_error
from tests.support.command_line import CliRunner


def commands(command: Any, *path: str) -> Iterator[tuple[str, ...]]:
    yield path
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, *path, name)


@pytest.mark.parametrize("path", list(commands(typer.main.get_command(app))), ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*path, "--help"])
    assert shown.exit_code == 0, shown.exception
    assert "Usage:" in shown.output


def test_ports_are_explained_as_they_are_written() -> None:
    shown = CliRunner().invoke(app, ["containers", "run", "--help"], env={"COLUMNS": "200"})
    assert "[HOST:]CONTAINER[/udp]" in shown.output


def run(*arguments: bytes | str, **given: Any) -> subprocess.CompletedProcess[bytes]:
    child = [sys.executable, "-m", "cli.main", *arguments]
    return subprocess.run(child, stderr=subprocess.PIPE, check=False, timeout=60, **given)


def test_an_output_that_is_full_is_one_sentence_and_a_failure() -> None:
    with Path("/dev/full").open("wb") as full:
        done = run("secrets", "new-key", stdout=full)
    assert done.returncode == FAILED
    assert done.stderr == b"The output cannot be written: No space left on device.\n"


def test_a_reader_that_leaves_is_no_error_to_talk_about() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run("secrets", "new-key", stdout=writer)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (FAILED, b"")


def test_an_argument_that_is_no_text_is_refused() -> None:
    done = run("containers", "show", b"\xff", stdout=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (USAGE, b"Argument 3 is no UTF-8 text.\n")


def test_signs_that_the_output_cannot_show_do_not_end_a_command() -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "MODELYARD_URL": "http://ü:x"}
    done = run("nodes", "list", stdout=subprocess.PIPE, env=environment)
    assert done.returncode == USAGE
    assert b"Traceback" not in done.stderr
    assert b"?:x" in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("secrets", "add", "x", "--username", "u"),
        ("secrets", "add", "x", "--username", "u", "--password-stdin"),
        ("containers", "call", "x", "--data", "-"),
    ],
    ids=" ".join,
)
def test_standard_input_that_is_closed_is_explained(command: tuple[str, ...]) -> None:
    done = closed("<&-", *command)
    assert done.returncode == USAGE
    assert done.stderr.startswith(b"Standard input is closed.")


def test_standard_output_that_is_closed_is_wanted_by_nobody() -> None:
    done = closed(">&-", "secrets", "new-key")
    assert (done.returncode, done.stderr) == (0, b"")


def closed(stream: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    child = ["sh", "-c", f'exec "$0" -m cli.main "$@" {stream}', sys.executable, *arguments]
    return subprocess.run(child, capture_output=True, check=False, timeout=60)


def test_commands_add_nothing_to_the_tree_of_errors() -> None:
    """What workers decide about errors would depend on which commands are loaded."""
    added = [error for error in every_error() if error.__module__.startswith("cli.")]
    assert added == []


def test_commands_do_not_load_what_only_servers_need() -> None:
    """It takes longer to load than most commands take to finish."""
    heavy = "{'pymongo', 'motor', 'docker', 'nats', 'pydantic'}"
    code = f"import sys, cli.main; print(*({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    assert done.stdout.split() == []
