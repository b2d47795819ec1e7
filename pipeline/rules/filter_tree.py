"""A query on documents as a typed tree: what `filters.parse` makes of JSON.

Literals are JSON values that hold no operator. The tree says what MongoDB's query language says;
`filter_compile` writes it back as such, `filter_match` evaluates it here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from pipeline.rules.strict_json import Json


class Comparison(StrEnum):
    EQ = "$eq"
    NE = "$ne"
    GT = "$gt"
    GTE = "$gte"
    LT = "$lt"
    LTE = "$lte"


@dataclass(frozen=True, slots=True)
class Compare:
    by: Comparison
    value: Json


@dataclass(frozen=True, slots=True)
class Among:
    """`$in`, or `$nin` when negated."""

    values: tuple[Json, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Exists:
    wanted: bool


@dataclass(frozen=True, slots=True)
class HasAll:
    values: tuple[Json, ...]


@dataclass(frozen=True, slots=True)
class HasSize:
    size: int


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


Condition: TypeAlias = (
    Compare | Among | Exists | HasAll | HasSize | AnyElement | AllElements | MatchesText | Not
)


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
