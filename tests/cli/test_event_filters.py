"""Which events can be asked for."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules

import pytest
from typer.testing import CliRunner

import schemas
from cli.client import USAGE
from cli.events import RESOURCES
from cli.main import app
from schemas.base import Record


@pytest.mark.parametrize("given", ["bogus", "", "Image", "[/x]"])
def test_an_unknown_resource_is_refused_with_the_known_ones(given: str) -> None:
    done = CliRunner().invoke(app, ["events", "--resource", given], env={"COLUMNS": "300"})
    assert done.exit_code == USAGE
    assert "container, image, model" in done.stderr


def test_the_known_resources_are_those_of_the_records() -> None:
    for module in iter_modules(schemas.__path__):
        import_module(f"schemas.{module.name}")
    assert set(RESOURCES) == set(_resources(Record))


def _resources(kind: type[Record]) -> Iterator[str]:
    for below in kind.__subclasses__():
        if below.__module__.startswith("schemas."):
            if hasattr(below, "resource"):
                yield below.resource
            yield from _resources(below)
