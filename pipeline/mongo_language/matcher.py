"""Evaluates filters on JSON documents as MongoDB does.

The odd rules about arrays are those of its matcher: a path reaches into every document of an
array and, where a segment is a number, to that element; a condition holds when any of the values
reached meets it, the array as a whole included. Values are compared by type first, numbers by
value, documents field by field.
https://www.mongodb.com/docs/manual/reference/bson-type-comparison-order/
"""

from __future__ import annotations

import operator
from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from pipeline.mongo_language import tree
from pipeline.mongo_language.patterns import TextSearch
from pipeline.mongo_language.tree import MISSING, Effort
from pipeline.mongo_language.tree import Operator as Op
from pipeline.strict_json import Json

_ORDERED: Final = {Op.GT: operator.gt, Op.GTE: operator.ge, Op.LT: operator.lt, Op.LTE: operator.le}
_DENIED: Final = {Op.NE: Op.EQ, Op.NIN: Op.IN}


class _Operand:
    """A literal of the filter, prepared once for many comparisons."""

    def __init__(self, value: Json) -> None:
        self._value = value
        self.key = equality_key(value)

    @cached_property
    def sort_key(self) -> Any:
        return sort_key(self._value)


class Matcher:
    """One evaluation: `effort` bounds all its work together."""

    def __init__(self, effort: Effort) -> None:
        self._effort = effort
        self._searches: dict[tree.MatchesText, TextSearch] = {}
        self._operands: dict[int, _Operand] = {}

    def document(self, test: tree.Clause, document: Mapping[str, Json]) -> bool:
        """Raises InvalidInput: too much effort, or a regular expression beyond our engine."""
        match test:
            case tree.And(clauses):
                return all(self.document(each, document) for each in clauses)
            case tree.Or(clauses):
                return any(self.document(each, document) for each in clauses)
            case tree.Nor(clauses):
                return not any(self.document(each, document) for each in clauses)
            case tree.At(path, conditions):
                parts = path.split(".")
                return all(self._at(each, document, parts) for each in conditions)

    def wrapped(self, conditions: Sequence[tree.Condition], value: Json) -> bool:
        """As if `value` were what a path leads to."""
        return all(self._at(each, {"": value}, [""]) for each in conditions)

    def _at(self, condition: tree.Condition, document: Mapping[str, Json], path: list[str]) -> bool:
        match condition:
            case tree.Compare(Op.NE | Op.NIN as by, operand):
                return not self._at(tree.Compare(_DENIED[by], operand), document, path)
            case tree.Compare(Op.EXISTS, False):
                return not self._at(tree.Compare(Op.EXISTS, True), document, path)
            case tree.Compare(Op.ALL, tuple(values)):
                equal = [tree.Compare(Op.EQ, value) for value in values]
                return bool(equal) and all(self._at(each, document, path) for each in equal)
            case tree.Not(conditions):
                return not all(self._at(each, document, path) for each in conditions)
            case tree.AllElements(tests):
                return bool(tests) and all(self._at(each, document, path) for each in tests)
        by_size = isinstance(condition, tree.Compare) and condition.by is Op.SIZE
        whole = by_size or isinstance(condition, tree.AnyElement)
        return any(self._single(condition, each) for each in reached(document, path, whole=whole))

    def _single(self, condition: tree.Condition, value: Any) -> bool:
        """Of one value, without a look into it when it is an array."""
        self._effort.spend(weight(value))
        match condition:
            case tree.Compare(Op.NE, operand):
                return not self._compares(Op.EQ, value, operand)
            case tree.Compare(Op.IN | Op.NIN as by, tuple(values)):
                is_among = any(self._compares(Op.EQ, value, each) for each in values)
                return is_among is (by is Op.IN)
            case tree.Compare(Op.ALL, tuple(values)):
                return bool(values) and all(self._compares(Op.EQ, value, each) for each in values)
            case tree.Compare(Op.EXISTS, wanted):
                return (value is not MISSING) is wanted
            case tree.Compare(Op.SIZE, size):
                return isinstance(value, list) and len(value) == size
            case tree.Compare(by, operand):
                return self._compares(by, value, operand)
            case tree.MatchesText():
                return isinstance(value, str) and self._finds(condition, value)
            case tree.Not(conditions):
                return not all(self._single(each, value) for each in conditions)
            case tree.AllElements(tests):
                return bool(tests) and all(self._single(each, value) for each in tests)
            case tree.AnyElement(test):
                return isinstance(value, list) and any(self._element(test, each) for each in value)

    def _element(self, test: tuple[tree.Condition, ...] | tree.And, element: Json) -> bool:
        self._effort.spend()
        if not isinstance(test, tree.And):
            return all(self._single(each, element) for each in test)
        if isinstance(element, list):
            element = {str(index): each for index, each in enumerate(element)}
        return isinstance(element, dict) and self.document(test, element)

    def _compares(self, by: Op, value: Any, operand: Json) -> bool:
        if value is MISSING:
            value = None
            if operand is not None:
                return False
        known = self._operands.get(id(operand))
        if known is None:
            # The filter keeps its literals, so their ids stay theirs.
            known = self._operands[id(operand)] = _Operand(operand)
        if by is Op.EQ:
            return equality_key(value) == known.key
        if rank(value) != rank(operand):
            return False
        if operand is None:
            return by in (Op.GTE, Op.LTE)
        return bool(_ORDERED[by](sort_key(value), known.sort_key))

    def _finds(self, pattern: tree.MatchesText, text: str) -> bool:
        search = self._searches.get(pattern)
        if search is None:
            search = self._searches[pattern] = TextSearch(pattern, "$regex")
        return search.finds(text, self._effort)


def reached(document: Mapping[str, Json], path: list[str], *, whole: bool) -> Iterator[Any]:
    """The values that a path leads to; `whole`: an array at its end counts only as itself."""
    value: Any = document
    for index, part in enumerate(path):
        value = value.get(part, MISSING) if isinstance(value, Mapping) else MISSING
        if isinstance(value, list) and index < len(path) - 1:
            yield from _within(value, path[index + 1 :], whole=whole)
            return
    if isinstance(value, list) and not whole:
        yield from value
    yield value


def _within(array: list[Json], path: list[str], *, whole: bool) -> Iterator[Any]:
    for index, element in enumerate(array):
        if isinstance(element, dict):
            yield from reached(element, path, whole=whole)
        if path[0] == str(index):
            rest = path[1:]
            if not rest:
                yield element
            elif isinstance(element, dict):
                yield from reached(element, rest, whole=whole)
            elif isinstance(element, list):
                yield from _within(element, rest, whole=whole)


_RANKS: Final = {type(None): 0, int: 1, float: 1, str: 2, dict: 3, list: 4, bool: 5}


def rank(value: Json) -> int:
    """Values of different ranks are never equal and not ordered by `$gt` and its kin."""
    return _RANKS[type(value)]


def equality_key(value: Json) -> Hashable:
    """Two values are equal to MongoDB exactly when their keys are: 1 and 1.0 are, 1 and true not.

    Fields of documents count in their order.
    """
    match value:
        case dict():
            return 3, tuple((name, equality_key(each)) for name, each in value.items())
        case list():
            return 4, tuple(equality_key(each) for each in value)
        case _:
            return rank(value), value


def sort_key(value: Json) -> Any:
    """Orders as MongoDB orders, over all types."""
    match value:
        case dict():
            fields = ((rank(each), name, sort_key(each)) for name, each in value.items())
            return 3, tuple(fields)
        case list():
            return 4, tuple(sort_key(each) for each in value)
        case None:
            return 0, 0
        case _:
            return rank(value), value


def identical(one: Json, other: Json) -> bool:
    """Whether nothing at all tells them apart: 1 and 1.0 are not, nor are other field orders."""
    if type(one) is not type(other):
        return False
    match one:
        case dict():
            return list(one) == list(other) and all(
                identical(each, other[name]) for name, each in one.items()
            )
        case list():
            return len(one) == len(other) and all(map(identical, one, other))
        case _:
            return bool(one == other)


def weight(value: Any) -> int:
    """About how much work it is to look at a value."""
    match value:
        case str():
            return 1 + len(value) // 256
        case dict():
            return 1 + sum(map(weight, value.values()))
        case list():
            return 1 + sum(map(weight, value))
        case _:
            return 1
