"""Queries that callers write: read against an allow-list, written back for MongoDB.

The language is a part of MongoDB's. Whatever is not listed here is refused, at any depth. A query
is written back on the paths under which we store things.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from pipeline import strict_json
from pipeline.errors import InvalidInput, TooLarge
from pipeline.mongo_language import tree
from pipeline.mongo_language.patterns import check_pattern
from pipeline.mongo_language.tree import Limits, deeper, elements, literal, literals, refuse
from pipeline.mongo_language.tree import segments as path_segments
from pipeline.strict_json import Json

SIZE_MAX: Final = 2**31 - 1
_OPERATORS: Final = frozenset({*tree.Operator, "$elemMatch", "$not"})
_LOGIC: Final[dict[str, type[tree.And] | type[tree.Or] | type[tree.Nor]]] = {
    "$and": tree.And,
    "$or": tree.Or,
    "$nor": tree.Nor,
}


def read(body: bytes, limits: Limits = Limits()) -> tree.And:  # noqa: B008 (frozen)
    """From the body of a request. Raises InvalidInput, also for one that is too long."""
    try:
        return parse(strict_json.read(body, max_bytes=limits.body_bytes), limits)
    except TooLarge as error:
        raise InvalidInput(error.message) from error


def parse(body: Json, limits: Limits = Limits()) -> tree.And:  # noqa: B008 (frozen)
    """From JSON; `{}` matches everything. Raises InvalidInput that names the path or operator."""
    return _filter(body, "the filter", 0, limits)


def parse_conditions(
    value: Json,
    where: str,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
) -> tuple[tree.Condition, ...]:
    """From an object of operators that all apply to one value."""
    return _conditions(value, where, 0, limits)


def is_operators(value: Json) -> bool:
    """Whether an object is read as operators on a value: its first key decides, as in MongoDB."""
    first = next(iter(value), "") if isinstance(value, dict) else ""
    return first.startswith("$") and first not in _LOGIC


def _filter(body: Json, where: str, depth: int, limits: Limits) -> tree.And:
    if not isinstance(body, dict):
        raise refuse(where, "it must be an object.")
    return tree.And(tuple(_clause(key, value, depth, limits) for key, value in body.items()))


def _clause(key: str, value: Json, depth: int, limits: Limits) -> tree.Clause:
    if key in _LOGIC:
        deeper(depth, key, limits)
        parts = elements(value, key, limits)
        if not parts:
            raise refuse(key, "it takes at least one filter.")
        return _LOGIC[key](tuple(_filter(part, key, depth + 1, limits) for part in parts))
    if key.startswith("$"):
        raise refuse(key, "this operator is not allowed here.")
    path_segments(key)
    if is_operators(value) or _mixes(value):
        return tree.At(key, _conditions(value, key, depth, limits))
    return tree.At(key, (tree.Compare(tree.Operator.EQ, literal(value, key, depth, limits)),))


def _mixes(value: Json) -> bool:
    return isinstance(value, dict) and any(key.startswith("$") for key in value)


def _conditions(value: Json, where: str, depth: int, limits: Limits) -> tuple[tree.Condition, ...]:
    if not isinstance(value, dict) or not value:
        raise refuse(where, "it takes an object of operators.")
    found: list[tree.Condition] = []
    for name, operand in value.items():
        if name == "$options":
            if "$regex" not in value:
                raise refuse(where, "$options needs $regex beside it.")
        elif name == "$regex":
            found.append(_pattern(operand, value.get("$options", ""), where, limits))
        elif name in _OPERATORS:
            found.append(_condition(name, operand, f"{where}.{name}", depth, limits))
        elif name.startswith("$"):
            raise refuse(where, f"{name[:50]} is not allowed here.")
        else:
            raise refuse(where, "operators and fields cannot be mixed.")
    return tuple(found)


def _pattern(pattern: Json, options: Json, where: str, limits: Limits) -> tree.MatchesText:
    if not isinstance(pattern, str):
        raise refuse(where, "$regex takes a string.")
    if not isinstance(options, str) or not set(options) <= set("imsx"):
        raise refuse(where, "$options takes letters of imsx.")
    if len(pattern) > limits.pattern_chars:
        raise refuse(where, f"a regular expression has at most {limits.pattern_chars} characters.")
    found = tree.MatchesText(pattern, "".join(sorted(set(options))))
    check_pattern(found, where)
    return found


def _condition(name: str, operand: Json, where: str, depth: int, limits: Limits) -> tree.Condition:
    match name:
        case "$elemMatch":
            return _any_element(operand, where, depth, limits)
        case "$not":
            deeper(depth, where, limits)
            return tree.Not(_conditions(operand, where, depth + 1, limits))
        case "$all":
            return _all(operand, where, depth, limits)
        case "$in" | "$nin":
            return tree.Compare(tree.Operator(name), literals(operand, where, depth, limits))
        case "$exists":
            if not isinstance(operand, bool | int | float):
                raise refuse(where, "it takes true or false, 1 or 0.")
            return tree.Compare(tree.Operator.EXISTS, bool(operand))
        case "$size" if type(operand) is not int or not 0 <= operand <= SIZE_MAX:
            raise refuse(where, f"it takes a whole number from 0 to {SIZE_MAX}.")
    return tree.Compare(tree.Operator(name), literal(operand, where, depth, limits))


def _all(operand: Json, where: str, depth: int, limits: Limits) -> tree.Condition:
    parts = elements(operand, where, limits)
    if not any(isinstance(part, dict) and "$elemMatch" in part for part in parts):
        return tree.Compare(tree.Operator.ALL, literals(operand, where, depth, limits))
    deeper(depth, where, limits)
    if not all(isinstance(part, dict) and set(part) == {"$elemMatch"} for part in parts):
        raise refuse(where, "values and $elemMatch cannot be mixed.")
    tests = (_any_element(part["$elemMatch"], where, depth + 1, limits) for part in parts)
    return tree.AllElements(tuple(tests))


def _any_element(operand: Json, where: str, depth: int, limits: Limits) -> tree.AnyElement:
    deeper(depth, where, limits)
    if is_operators(operand):
        return tree.AnyElement(_conditions(operand, where, depth + 1, limits))
    return tree.AnyElement(_filter(operand, where, depth + 1, limits))


Query = dict[str, Any]

ABSENT: Final = "~"
"""A field that no record has: what a path leads to that names no known field."""
_NAMES: Final = {kind: name for name, kind in _LOGIC.items()}


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


def to_query(filter: tree.And, fields: FilterFields, guard: Mapping[str, Any]) -> Query:
    """`guard` and the filter. Raises InvalidInput for a path to an internal field."""
    return {"$and": [dict(guard), _written(filter, fields)]}


def sort_path(path: str, fields: FilterFields) -> str:
    """Where to sort. Raises InvalidInput for a path outside the document."""
    if path.partition(".")[0] not in fields.stored:
        raise refuse(path, "there is no such field to sort by.")
    return fields.locate(path)


def _written(clause: tree.Clause, fields: FilterFields | None) -> Query:
    match clause:
        case tree.And(()):
            return {}
        case tree.And(clauses) | tree.Or(clauses) | tree.Nor(clauses):
            return {_NAMES[type(clause)]: [_written(each, fields) for each in clauses]}
        case tree.At(path, conditions):
            located = fields.locate(path) if fields else path
            found = [_written_condition(_plain(each), path, fields) for each in conditions]
            return {"$and": [{located: condition} for condition in found]}


def _plain(condition: tree.Condition) -> tree.Condition:
    """All that null is ordered with is itself and a missing field, so it is asked for as equal.

    As an order, a wildcard index would answer it, and that holds no missing fields.
    """
    match condition:
        case tree.Compare(tree.Operator.GTE | tree.Operator.LTE, None):
            return tree.Compare(tree.Operator.EQ, None)
    return condition


def _written_condition(condition: tree.Condition, path: str, fields: FilterFields | None) -> Query:
    """`fields` is None inside `$elemMatch`, where paths begin at the element."""

    def operand(value: Json) -> Any:
        return fields.operand(path, value) if fields else value

    match condition:
        case tree.Compare(by, tuple(values)):
            return {by.value: [operand(value) for value in values]}
        case tree.Compare(by, value):
            return {by.value: operand(value)}
        case tree.MatchesText(pattern, options):
            # The server puts the pattern in brackets: a comment at its end must not swallow them.
            ending = "\n" if "x" in options else ""
            return {"$regex": pattern + ending, "$options": options}
        case tree.AllElements(tests):
            return {"$all": [_written_condition(test, path, None) for test in tests]}
        case tree.AnyElement(test):
            inner = (
                _written(test, None) if isinstance(test, tree.And) else _together(test, path, None)
            )
            return {"$elemMatch": inner}
        case tree.Not(conditions):
            return {"$not": _together(conditions, path, fields)}


def _together(
    conditions: tuple[tree.Condition, ...], path: str, fields: FilterFields | None
) -> Query:
    """Operators on one value. JSON held each of them once, so none overwrites another."""
    together: Query = {}
    for each in conditions:
        together |= _written_condition(each, path, fields)
    return together
