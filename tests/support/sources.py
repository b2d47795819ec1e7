"""The product's own source, parsed: what the tests of its structure walk."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("modelyard", "schemas", "pipeline", "workers", "api", "cli")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    path: Path
    text: str
    tree: ast.Module

    @property
    def place(self) -> str:
        """Path from the root of the repository."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def name(self) -> str:
        parts = self.path.relative_to(ROOT).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def package(self) -> str:
        return self.path.relative_to(ROOT).parts[0]

    def imports(self) -> Iterator[str]:
        """Every module that it names, wherever in the file."""
        for node in self._named:
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                yield node.module
                yield from (f"{node.module}.{alias.name}" for alias in node.names)

    def functions(self) -> Iterator[Function]:
        return (node for node in self._named if isinstance(node, Function))

    def classes(self) -> Iterator[ast.ClassDef]:
        return (node for node in self._named if isinstance(node, ast.ClassDef))

    @cached_property
    def _named(self) -> Sequence[ast.stmt]:
        """Imports and definitions. Walking whole trees is what takes long here: once each."""
        kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        return [node for node in ast.walk(self.tree) if isinstance(node, kinds)]


def modules(*packages: str) -> tuple[Module, ...]:
    """Those of the given packages, in order of their paths."""
    return tuple(
        _module(path) for package in packages for path in sorted((ROOT / package).rglob("*.py"))
    )


@cache
def _module(path: Path) -> Module:
    return Module(path, text := path.read_text(), ast.parse(text))


def lines_of(node: ast.AST) -> int:
    """How long a definition is, decorators left out."""
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    return (node.end_lineno or node.lineno) - node.lineno + 1
