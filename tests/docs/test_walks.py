"""The walks lead through functions that exist, and stay short."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.support.sources import ROOT

TEXT = (ROOT / "docs" / "walks.md").read_text()
WALKS = {
    title: re.findall(r"^\d+\. `([\w/]+\.py):([\w.]+)`", body, re.M)
    for title, body in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S)
}
MAX_STOPS = 40
MAX_PACKAGES = 12
MAX_FILES = 30
every_walk = pytest.mark.parametrize("title", WALKS)


@cache
def defined(place: str) -> frozenset[str]:
    """Functions of a file, methods as `Class.method`."""
    tree = ast.parse((ROOT / place).read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    names = {node.name for node in tree.body if isinstance(node, functions)}
    for kind in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        names |= {f"{kind.name}.{node.name}" for node in kind.body if isinstance(node, functions)}
    return frozenset(names)


def test_there_are_four_walks() -> None:
    assert len(WALKS) == 4


@every_walk
def test_every_stop_exists(title: str) -> None:
    missing = [f"{place}:{name}" for place, name in WALKS[title] if name not in defined(place)]
    assert not missing, missing


@every_walk
def test_every_numbered_line_is_a_stop(title: str) -> None:
    body = TEXT.partition(f"## {title}\n")[2].partition("\n## ")[0]
    numbers = [int(number) for number in re.findall(r"^(\d+)\. ", body, re.M)]
    assert numbers == list(range(1, len(WALKS[title]) + 1))


@every_walk
def test_a_walk_is_short(title: str) -> None:
    stops = WALKS[title]
    files = {place for place, _ in stops}
    packages = {place.rpartition("/")[0] for place in files}
    assert len(stops) <= MAX_STOPS
    assert len(files) <= MAX_FILES
    assert len(packages) <= MAX_PACKAGES
