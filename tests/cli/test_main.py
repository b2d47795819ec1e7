"""The command line as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from cli.main import app


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
