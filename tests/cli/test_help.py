"""What every command says about itself, and which operation of the API it stands for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from cli.main import app
from tests.support.command_line import CliRunner

WIDTH = 100


def commands(command: Any, *path: str) -> Iterator[tuple[str, ...]]:
    """Of the whole tree, but those that only hold others."""
    below = getattr(command, "commands", None)
    if below is not None:
        for name, each in below.items():
            yield from commands(each, *path, name)
    else:
        yield path


ALL = sorted(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_has_an_example_and_fits(path: tuple[str, ...]) -> None:
    said = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": str(WIDTH)}).stdout
    example = "For instance: "
    assert example in said
    text = said.partition(example)[2]
    assert f"modelyard {' '.join(path)}" in text or f"modelyard {path[-1]}" in text
    assert max(map(len, said.splitlines())) <= WIDTH


def test_the_version_is_told() -> None:
    said = CliRunner().invoke(app, ["--version"])
    assert (said.exit_code, said.stdout[:10]) == (0, "modelyard ")


def test_exit_codes_are_told_where_people_look_first() -> None:
    said = " ".join(CliRunner().invoke(app, ["--help"]).stdout.split())
    assert "2 wrong arguments, 3 not found, 4 not allowed, 5 no answer" in said
