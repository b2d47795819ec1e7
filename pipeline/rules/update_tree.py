"""Changes to a document as typed values: what `updates.parse` makes of JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from pipeline.rules.filter_tree import And, Condition
from pipeline.rules.strict_json import Json

Path: TypeAlias = tuple[str, ...]
"""Segments of a dotted path."""


@dataclass(frozen=True, slots=True)
class Set:
    path: Path
    value: Json


@dataclass(frozen=True, slots=True)
class Unset:
    path: Path


@dataclass(frozen=True, slots=True)
class Push:
    path: Path
    values: tuple[Json, ...]


@dataclass(frozen=True, slots=True)
class AddToSet:
    path: Path
    values: tuple[Json, ...]


@dataclass(frozen=True, slots=True)
class EqualTo:
    value: Json


@dataclass(frozen=True, slots=True)
class Meets:
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Pull:
    """Elements go that equal a value, meet conditions, or are documents that match a filter."""

    path: Path
    test: EqualTo | Meets | And


@dataclass(frozen=True, slots=True)
class Increment:
    path: Path
    amount: int | float


@dataclass(frozen=True, slots=True)
class Rename:
    source: Path
    path: Path
    """The new name."""


Change: TypeAlias = Set | Unset | Push | AddToSet | Pull | Increment | Rename


@dataclass(frozen=True, slots=True)
class UpdateFields:
    """What of a document may be changed."""

    writable: frozenset[str]
    deep: frozenset[str] = frozenset()
    """Of these, the ones that dotted paths may reach into."""
    fixed: frozenset[str] = frozenset()
    """Of these, the ones that may be named and must keep their value."""


@dataclass(frozen=True, slots=True)
class Update:
    """In the order in which it is applied; no two changes touch the same place."""

    changes: tuple[Change, ...]
    fields: UpdateFields
