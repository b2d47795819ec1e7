"""Writes a filter back as a query of MongoDB, on the paths under which we store things."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from pipeline.rules.filter_literals import refuse
from pipeline.rules.filter_tree import (
    AllElements,
    Among,
    And,
    AnyElement,
    At,
    Clause,
    Compare,
    Condition,
    Exists,
    HasAll,
    HasSize,
    MatchesText,
    Nor,
    Not,
    Or,
)
from pipeline.rules.strict_json import Json

Query = dict[str, Any]

ABSENT: Final = "~"
"""A field that no record has: what a path leads to that names no known field."""
_LOGIC: Final = {And: "$and", Or: "$or", Nor: "$nor"}


@dataclass(frozen=True, slots=True)
class FilterFields:
    """What callers call the fields of a document, and where they are stored."""

    stored: Mapping[str, str]
    """First segment of a path as callers write it → stored path."""
    internal: frozenset[str] = frozenset({"_id"})
    """Fields of the record that are nobody's business; naming one is an error."""
    times: frozenset[str] = field(default=frozenset())
    """Fields (as callers write them) that are stored as times; ISO 8601 texts are read as such."""

    def locate(self, path: str) -> str:
        """Raises InvalidInput for an internal field."""
        first, dot, rest = path.partition(".")
        if first in self.internal:
            raise refuse(path, "this field cannot be queried.")
        known = self.stored.get(first, f"{ABSENT}.{first}")
        return known + dot + rest

    def operand(self, path: str, value: Json) -> Any:
        if path not in self.times or not isinstance(value, str):
            return value
        try:
            time = datetime.fromisoformat(value)
        except ValueError:
            return value
        return _in_utc(time)


def _in_utc(time: datetime) -> datetime:
    """Of times that UTC cannot write, the nearest one that it can."""
    if time.tzinfo is None:
        return time.replace(tzinfo=UTC)
    try:
        return time.astimezone(UTC)
    except OverflowError:
        end = datetime.min if time.year == 1 else datetime.max
        return end.replace(tzinfo=UTC)


def to_query(filter: And, fields: FilterFields, guard: Mapping[str, Any]) -> Query:
    """`guard` and the filter. Raises InvalidInput for a path to an internal field."""
    return {"$and": [dict(guard), _clause(filter, fields)]}


def sort_path(path: str, fields: FilterFields) -> str:
    """Where to sort. Raises InvalidInput for a path outside the document."""
    if path.partition(".")[0] not in fields.stored:
        raise refuse(path, "there is no such field to sort by.")
    return fields.locate(path)


def _clause(clause: Clause, fields: FilterFields | None) -> Query:
    match clause:
        case And(()):
            return {}
        case And(clauses) | Or(clauses) | Nor(clauses):
            return {_LOGIC[type(clause)]: [_clause(each, fields) for each in clauses]}
        case At(path, conditions):
            located = fields.locate(path) if fields else path
            found = [_condition(each, path, fields) for each in conditions]
            return {"$and": [{located: condition} for condition in found]}


def _condition(condition: Condition, path: str, fields: FilterFields | None) -> Query:
    """`fields` is None inside `$elemMatch`, where paths begin at the element."""

    def operand(value: Json) -> Any:
        return fields.operand(path, value) if fields else value

    match condition:
        case Compare(by, value):
            return {by.value: operand(value)}
        case Among(values, negated):
            return {"$nin" if negated else "$in": [operand(value) for value in values]}
        case Exists(wanted):
            return {"$exists": wanted}
        case HasAll(values):
            return {"$all": list(values)}
        case HasSize(size):
            return {"$size": size}
        case MatchesText(pattern, options):
            # The server puts the pattern in brackets: a comment at its end must not swallow them.
            ending = "\n" if "x" in options else ""
            return {"$regex": pattern + ending, "$options": options}
        case AllElements(tests):
            return {"$all": [_condition(test, path, None) for test in tests]}
        case AnyElement(test):
            inner = _clause(test, None) if isinstance(test, And) else _together(test, path, None)
            return {"$elemMatch": inner}
        case Not(conditions):
            return {"$not": _together(conditions, path, fields)}


def _together(conditions: tuple[Condition, ...], path: str, fields: FilterFields | None) -> Query:
    """Operators on one value. JSON held each of them once, so none overwrites another."""
    together: Query = {}
    for each in conditions:
        together |= _condition(each, path, fields)
    return together
