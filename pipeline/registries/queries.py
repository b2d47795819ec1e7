"""Searches of the registry directory: their pages, and what they may cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pipeline.mongo_language import tree
from pipeline.mongo_language.filters import FilterFields
from pipeline.registries.entries import ID
from pipeline.strict_json import Json

LIMIT: Final = 100
LIMIT_MAX: Final = 1000
_INDEXED: Final = frozenset({"id", "name", "tags", "secret"})
_INDEXED_BELOW: Final = "metadata."


@dataclass(frozen=True, slots=True)
class Paging:
    limit: int = LIMIT
    offset: int = 0
    sort: tuple[tuple[str, int], ...] = (("created_at", 1), (ID, 1))
    """Stored paths with their direction; the id comes last, so that the order is total."""


def is_cheap(filter: tree.And, fields: FilterFields, paging: Paging) -> bool:
    """Whether an index narrows it down and no regular expression runs: it then cannot take long
    at the cost of others. So is a page of everything in the order of an index."""
    if not filter.clauses:
        return paging.sort[0][0] == "created_at"
    return not _has_pattern(filter) and _is_narrowed(filter, fields)


def _is_narrowed(clause: tree.Clause, fields: FilterFields) -> bool:
    match clause:
        case tree.And(clauses):
            return any(_is_narrowed(each, fields) for each in clauses)
        case tree.Or(clauses):
            return all(_is_narrowed(each, fields) for each in clauses)
        case tree.At(path, conditions):
            stored = fields.locate(path)
            is_indexed = stored in _INDEXED or stored.startswith(_INDEXED_BELOW)
            return is_indexed and any(map(_is_exact, conditions))
        case tree.Nor():
            return False


def _is_exact(condition: tree.Condition) -> bool:
    """Picks plain values; null is what most entries may have."""
    match condition:
        case tree.Compare(tree.Operator.EQ, value):
            return _is_plain(value)
        case tree.Compare(tree.Operator.IN | tree.Operator.ALL, tuple(values)):
            return all(map(_is_plain, values))
        case _:
            return False


def _is_plain(value: Json) -> bool:
    return isinstance(value, str | int | float)


def _has_pattern(part: tree.Clause | tree.Condition | tuple[tree.Condition, ...]) -> bool:
    parts: tuple[tree.Clause | tree.Condition, ...]
    match part:
        case tree.AnyElement(test):
            return _has_pattern(test)
        case tuple(parts) | tree.Not(parts) | tree.At(_, parts) | tree.AllElements(parts):
            return any(map(_has_pattern, parts))
        case tree.And(parts) | tree.Or(parts) | tree.Nor(parts):
            return any(map(_has_pattern, parts))
        case _:
            return isinstance(part, tree.MatchesText)
