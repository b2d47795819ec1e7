"""Every command that lists or shows records prints them in each format."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any

import pytest
import typer.main
from typer.testing import Result

from cli.console import FORMAT, USAGE, Format, Wide, json_or_table
from cli.main import app
from tests.cli.test_help import ALL
from tests.support.http.said_yard import Yard

Command = Callable[..., Result]
RECORDS = [
    path
    for path in ALL
    if path[-1] in ("list", "show", "rows", "show-row", "checks", "deliveries", "versions", "top")
    or path[-1] == "search"
]


def options(path: tuple[str, ...]) -> set[str]:
    found: Any = typer.main.get_command(app)
    for name in path:
        found = found.commands[name]
    return {each for option in found.params for each in option.opts}


@pytest.mark.parametrize("path", RECORDS, ids=" ".join)
def test_what_lists_or_shows_records_has_every_format(path: tuple[str, ...]) -> None:
    assert {"--json", "--output", "-o"} <= options(path)


def test_whatever_lists_is_looked_at() -> None:
    assert len(RECORDS) > 30
    listing = {" ".join(path) for path in ALL if path[-1].startswith(("list", "show"))}
    assert listing <= {" ".join(path) for path in RECORDS}


NODE = {
    "uuid": "0a8f8a4e-93f1-4c5f-8a64-0e5a1cf1f7a0",
    "name": "gpu-1",
    "status": "READY",
    "address": "10.0.0.7",
    "labels": {"zone": "b"},
    "inventory": {"gpus": [], "cpus": 4, "memory_bytes": 1, "engine_version": "27"},
    "last_heartbeat": None,
}


@pytest.fixture(autouse=True)
def node(yard: Yard) -> None:
    yard.says("GET /nodes", {"items": [NODE], "next": None})
    yard.says("GET /nodes/find", NODE)
    yard.says(f"GET /nodes/{NODE['uuid']}", NODE)


@pytest.mark.parametrize("line", [["nodes", "list"], ["nodes", "show", "gpu-1"]], ids=" ".join)
def test_names_rows_and_documents_of_the_same_records(command: Command, line: list[str]) -> None:
    assert command(*line, "-o", "name").stdout == "gpu-1\n"
    wide = command(*line, "-o", "wide").stdout
    assert "10.0.0.7" in wide
    assert "zone=b" in wide
    for document in (["--json"], ["-o", "json"]):
        said = json.loads(command(*line, *document).stdout)
        assert (said if isinstance(said, list) else [said]) == [NODE]


def test_a_table_is_narrower_than_a_wide_one(command: Command) -> None:
    assert "10.0.0.7" not in command("nodes", "list").stdout


def test_two_formats_at_once_are_refused(command: Command) -> None:
    assert command("nodes", "list", "--json", "-o", "name").exit_code == USAGE


def test_records_are_called_by_what_other_commands_take(capsys: pytest.CaptureFixture[str]) -> None:
    columns = [("ID", lambda item: item["id"]), ("NAME", Wide(lambda item: item["name"]))]
    asked = FORMAT.set(Format.NAME)
    try:
        json_or_table([{"id": 1, "name": "n"}], columns, as_json=False)
        json_or_table([{"id": 1, "name": "n"}], columns, as_json=False, called="ID")
        json_or_table([{"id": 1}], columns[:1], as_json=False)
    finally:
        FORMAT.reset(asked)
    assert capsys.readouterr().out == "n\n1\n1\n"


def test_short_commands_are_the_long_ones() -> None:
    root: Any = typer.main.get_command(app)
    group = root.commands["deployments"].commands
    for short, whole in (("deploy", "create"), ("scale", "scale"), ("rollback", "rollback")):
        assert options((short,)) == options(("deployments", whole))
        asked, long = root.commands[short].callback, group[whole].callback
        assert inspect.unwrap(asked) is inspect.unwrap(long)
