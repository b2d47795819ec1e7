"""What processes are made of: each loads only what it uses, and no resource is forgotten."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pkgutil import walk_packages
from typing import Any, get_args

import pytest
from pydantic import BaseModel

import schemas
from pipeline.bootstrap.control_plane import SEALED
from schemas.base import Record
from tests.support.sources import ROOT

# The three processes idle beside the models of a GPU host.
LATER = {"cryptography", "jwt", "grpc"}
"""Loaded with the first secret, token or call."""
FOREIGN = {
    "api.app": {"docker", "pynvml", "faststream"},
    "workers.__main__": {"docker", "pynvml", "fastapi"},
    "workers.agent": {
        "fastapi",
        "argon2",
        "pipeline.bootstrap.control_plane",
        "pipeline.images.ingest.ingest",
    },
}


@pytest.mark.parametrize("process", FOREIGN)
def test_a_process_loads_only_what_it_uses(process: str) -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", f"import sys, {process}; print(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "pipeline.settings" in loaded
    assert sorted((FOREIGN[process] | LATER) & set(loaded)) == []


def test_a_new_encryption_key_reaches_everything_that_is_sealed() -> None:
    for module in walk_packages(schemas.__path__, "schemas."):
        import_module(module.name)
    sealing = {kind for kind in _below(Record) if "sealed" in "".join(_fields(kind))}
    assert {each.kind for each in SEALED} == sealing


def _below(kind: type[Record]) -> Iterator[type[Record]]:
    for each in kind.__subclasses__():
        if each.__module__.startswith("schemas."):
            yield each
        yield from _below(each)


def _fields(kind: type[BaseModel]) -> Iterator[str]:
    """Also of what lies inside."""
    for name, field in kind.model_fields.items():
        yield name
        for inside in _models(field.annotation):
            yield from _fields(inside)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for each in get_args(annotation):
        yield from _models(each)
