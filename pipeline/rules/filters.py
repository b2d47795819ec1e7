"""Queries that callers write: read against an allow-list into a typed tree.

The language is a part of MongoDB's. Whatever is not listed here is refused, at any depth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pipeline.errors import InvalidInput, TooLarge
from pipeline.rules import strict_json
from pipeline.rules.filter_literals import Limits, deeper, elements, literal, literals, refuse
from pipeline.rules.filter_literals import segments as path_segments
from pipeline.rules.filter_patterns import check_pattern
from pipeline.rules.filter_tree import (
    AllElements,
    Among,
    And,
    AnyElement,
    At,
    Clause,
    Compare,
    Comparison,
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

__all__ = ["Limits", "parse", "parse_conditions", "read"]

SIZE_MAX: Final = 2**31 - 1
_LOGIC: Final[dict[str, type[And] | type[Or] | type[Nor]]] = {"$and": And, "$or": Or, "$nor": Nor}


def read(body: bytes, limits: Limits = Limits()) -> And:  # noqa: B008 (frozen)
    """From the body of a request. Raises InvalidInput, also for one that is too long."""
    try:
        return parse(strict_json.read(body, max_bytes=limits.body_bytes), limits)
    except TooLarge as error:
        raise InvalidInput(error.message) from error


def parse(body: Json, limits: Limits = Limits()) -> And:  # noqa: B008 (frozen)
    """From JSON; `{}` matches everything. Raises InvalidInput that names the path or operator."""
    return _filter(body, "the filter", 0, limits)


def parse_conditions(
    value: Json,
    where: str,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
) -> tuple[Condition, ...]:
    """From an object of operators that all apply to one value."""
    return _conditions(value, where, 0, limits)


def is_operators(value: Json) -> bool:
    """Whether an object is read as operators on a value: its first key decides, as in MongoDB."""
    first = next(iter(value), "") if isinstance(value, dict) else ""
    return first.startswith("$") and first not in _LOGIC


def _filter(body: Json, where: str, depth: int, limits: Limits) -> And:
    if not isinstance(body, dict):
        raise refuse(where, "it must be an object.")
    return And(tuple(_clause(key, value, depth, limits) for key, value in body.items()))


def _clause(key: str, value: Json, depth: int, limits: Limits) -> Clause:
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
        return At(key, _conditions(value, key, depth, limits))
    return At(key, (Compare(Comparison.EQ, literal(value, key, depth, limits)),))


def _mixes(value: Json) -> bool:
    return isinstance(value, dict) and any(key.startswith("$") for key in value)


def _conditions(value: Json, where: str, depth: int, limits: Limits) -> tuple[Condition, ...]:
    if not isinstance(value, dict) or not value:
        raise refuse(where, "it takes an object of operators.")
    found: list[Condition] = []
    for name, operand in value.items():
        if name == "$options":
            if "$regex" not in value:
                raise refuse(where, "$options needs $regex beside it.")
        elif name == "$regex":
            found.append(_pattern(operand, value.get("$options", ""), where, limits))
        elif name in _OPERATORS:
            found.append(_OPERATORS[name](operand, f"{where}.{name}", depth, limits))
        elif name.startswith("$"):
            raise refuse(where, f"{name[:50]} is not allowed here.")
        else:
            raise refuse(where, "operators and fields cannot be mixed.")
    return tuple(found)


def _pattern(pattern: Json, options: Json, where: str, limits: Limits) -> MatchesText:
    if not isinstance(pattern, str):
        raise refuse(where, "$regex takes a string.")
    if not isinstance(options, str) or not set(options) <= set("imsx"):
        raise refuse(where, "$options takes letters of imsx.")
    if len(pattern) > limits.pattern_chars:
        raise refuse(where, f"a regular expression has at most {limits.pattern_chars} characters.")
    found = MatchesText(pattern, "".join(sorted(set(options))))
    check_pattern(found, where)
    return found


def _compare(by: Comparison) -> Operator:
    def parse(operand: Json, where: str, depth: int, limits: Limits) -> Condition:
        return Compare(by, literal(operand, where, depth, limits))

    return parse


def _among(*, negated: bool) -> Operator:
    def parse(operand: Json, where: str, depth: int, limits: Limits) -> Condition:
        return Among(literals(operand, where, depth, limits), negated)

    return parse


def _exists(operand: Json, where: str, depth: int, limits: Limits) -> Condition:
    if not isinstance(operand, bool):
        raise refuse(where, "it takes true or false.")
    return Exists(operand)


def _size(operand: Json, where: str, depth: int, limits: Limits) -> Condition:
    whole = isinstance(operand, int) and not isinstance(operand, bool)
    if not whole or not 0 <= operand <= SIZE_MAX:
        raise refuse(where, f"it takes a whole number from 0 to {SIZE_MAX}.")
    return HasSize(operand)


def _all(operand: Json, where: str, depth: int, limits: Limits) -> Condition:
    parts = elements(operand, where, limits)
    if not any(isinstance(part, dict) and "$elemMatch" in part for part in parts):
        return HasAll(literals(operand, where, depth, limits))
    deeper(depth, where, limits)
    if not all(isinstance(part, dict) and set(part) == {"$elemMatch"} for part in parts):
        raise refuse(where, "values and $elemMatch cannot be mixed.")
    tests = (_any_element(part["$elemMatch"], where, depth + 1, limits) for part in parts)
    return AllElements(tuple(tests))


def _any_element(operand: Json, where: str, depth: int, limits: Limits) -> AnyElement:
    deeper(depth, where, limits)
    if is_operators(operand):
        return AnyElement(_conditions(operand, where, depth + 1, limits))
    return AnyElement(_filter(operand, where, depth + 1, limits))


def _not(operand: Json, where: str, depth: int, limits: Limits) -> Condition:
    deeper(depth, where, limits)
    return Not(_conditions(operand, where, depth + 1, limits))


Operator = Callable[[Json, str, int, Limits], Condition]
_OPERATORS: Final[dict[str, Operator]] = {
    **{by.value: _compare(by) for by in Comparison},
    "$in": _among(negated=False),
    "$nin": _among(negated=True),
    "$exists": _exists,
    "$size": _size,
    "$all": _all,
    "$elemMatch": _any_element,
    "$not": _not,
}
