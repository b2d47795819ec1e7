"""Filters and changes as typed trees: what the parsers make of JSON, and what bounds that.

Literals are JSON values that hold no operator. A filter says what MongoDB's query language says;
`filters` reads it and writes it back as such, `matcher` evaluates it here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from pipeline import strict_json
from pipeline.errors import InvalidInput
from pipeline.strict_json import Json


class Operator(StrEnum):
    EQ = "$eq"
    NE = "$ne"
    GT = "$gt"
    GTE = "$gte"
    LT = "$lt"
    LTE = "$lte"
    IN = "$in"
    NIN = "$nin"
    ALL = "$all"
    EXISTS = "$exists"
    SIZE = "$size"


@dataclass(frozen=True, slots=True)
class Compare:
    """One operator and what stands beside it: a tuple for `$in`, `$nin` and `$all`."""

    by: Operator
    operand: Json | tuple[Json, ...]


@dataclass(frozen=True, slots=True)
class AnyElement:
    """`$elemMatch`: one element meets all conditions, or, being a document, the filter."""

    test: tuple[Condition, ...] | And


@dataclass(frozen=True, slots=True)
class AllElements:
    """`$all` of several `$elemMatch`."""

    tests: tuple[AnyElement, ...]


@dataclass(frozen=True, slots=True)
class MatchesText:
    pattern: str
    options: str = ""
    """A subset of `imsx`, sorted."""


@dataclass(frozen=True, slots=True)
class Not:
    conditions: tuple[Condition, ...]


Condition: TypeAlias = Compare | AnyElement | AllElements | MatchesText | Not


@dataclass(frozen=True, slots=True)
class At:
    """What is at a dotted path meets all conditions."""

    path: str
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class And:
    clauses: tuple[Clause, ...]


@dataclass(frozen=True, slots=True)
class Or:
    clauses: tuple[Clause, ...]


@dataclass(frozen=True, slots=True)
class Nor:
    clauses: tuple[Clause, ...]


Clause: TypeAlias = At | And | Or | Nor

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
class Pull:
    """Elements go that equal a value, meet conditions, or are documents that match a filter."""

    path: Path
    test: EqualTo | tuple[Condition, ...] | And


@dataclass(frozen=True, slots=True)
class Increment:
    path: Path
    amount: int | float


@dataclass(frozen=True, slots=True)
class Rename:
    source: Path
    path: Path
    """The new name."""


class _Missing:
    """What a path leads to where there is nothing: equal to null, and not existing."""


MISSING: Final = _Missing()

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


ALLOWED: Final = 1_000_000
"""Comparisons, or steps of a regular expression: about a second."""


class Effort:
    def __init__(self, allowed: int = ALLOWED) -> None:
        self._left = allowed

    def spend(self, units: int = 1) -> None:
        """Raises InvalidInput when nothing is left."""
        self._left -= units
        if self._left < 0:
            raise InvalidInput(
                "The expression takes too long on this document: make it simpler or narrower."
            )


PATH_SEGMENTS: Final = 100


@dataclass(frozen=True, slots=True)
class Limits:
    depth: int = 10
    """Operators and literals inside one another."""
    elements: int = 100
    """In each list that an operator takes."""
    pattern_chars: int = 256
    body_bytes: int = 64 * 1024


def refuse(where: str | Path, why: str) -> InvalidInput:
    where = where if isinstance(where, str) else ".".join(where)
    shown = where if len(where) <= 100 else where[:100] + "…"
    return InvalidInput(f"{shown}: {why}", path=shown)


def literal(value: Json, where: str, depth: int, limits: Limits) -> Json:
    """`value` itself. Raises InvalidInput for operators, other types and too much nesting."""
    if isinstance(value, dict | list):
        deeper(depth, where, limits)
        if isinstance(value, dict):
            for key in value:
                if key.startswith("$"):
                    raise refuse(where, f"{key[:50]} is not allowed inside a value.")
                strict_json.check_text(key)
        for each in value.values() if isinstance(value, dict) else value:
            literal(each, where, depth + 1, limits)
    else:
        strict_json.check(value)
    return value


def literals(value: Json, where: str, depth: int, limits: Limits) -> tuple[Json, ...]:
    """The elements of a list that an operator takes."""
    checked = elements(value, where, limits)
    return tuple(literal(each, where, depth + 1, limits) for each in checked)


def elements(value: Json, where: str, limits: Limits) -> list[Json]:
    if not isinstance(value, list):
        raise refuse(where, "it takes an array.")
    if len(value) > limits.elements:
        raise refuse(where, f"it takes at most {limits.elements} elements, not {len(value)}.")
    return value


def deeper(depth: int, where: str, limits: Limits) -> None:
    if depth >= limits.depth:
        raise refuse(where, f"the filter is nested deeper than {limits.depth} levels.")


def segments(path: str) -> list[str]:
    """Of a dotted path. Raises InvalidInput for empty, `$`-led and too many segments."""
    parts = path.split(".")
    strict_json.check_text(path)
    if len(parts) > PATH_SEGMENTS:
        raise refuse(path, f"a path has at most {PATH_SEGMENTS} segments.")
    for part in parts:
        if not part:
            raise refuse(path, "a path has no empty segments.")
        if part.startswith("$"):
            raise refuse(path, f"{part[:50]} is not allowed in a path.")
    return parts
