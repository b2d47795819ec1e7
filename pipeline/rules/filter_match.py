"""Evaluates filters on JSON documents as MongoDB does.

The odd rules about arrays are those of its matcher: a path reaches into every document of an
array and, where a segment is a number, to that element; a condition holds when any of the values
reached meets it, the array as a whole included.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from pipeline.rules import filter_order
from pipeline.rules.filter_automaton import Automaton
from pipeline.rules.filter_effort import Effort
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


class _Missing:
    """What a path yields where there is nothing. Equal to null, and not existing."""


_MISSING: Final = _Missing()
_ORDERED: Final = {
    Comparison.GT: operator.gt,
    Comparison.GTE: operator.ge,
    Comparison.LT: operator.lt,
    Comparison.LTE: operator.le,
}


class _Operand:
    """A literal of the filter, prepared once for many comparisons."""

    def __init__(self, value: Json) -> None:
        self._value = value
        self.key = filter_order.key(value)

    @cached_property
    def sort_key(self) -> Any:
        return filter_order.sort_key(self._value)


class Matcher:
    """One evaluation: `effort` bounds all its work together."""

    def __init__(self, effort: Effort) -> None:
        self._effort = effort
        self._automata: dict[MatchesText, Automaton] = {}
        self._operands: dict[int, _Operand] = {}

    def document(self, test: Clause, document: Mapping[str, Json]) -> bool:
        """Raises InvalidInput: too much effort, or a regular expression beyond our engine."""
        match test:
            case And(clauses):
                return all(self.document(each, document) for each in clauses)
            case Or(clauses):
                return any(self.document(each, document) for each in clauses)
            case Nor(clauses):
                return not any(self.document(each, document) for each in clauses)
            case At(path, conditions):
                parts = path.split(".")
                return all(self._at(each, document, parts) for each in conditions)

    def wrapped(self, conditions: Sequence[Condition], value: Json) -> bool:
        """As if `value` were what a path leads to."""
        return all(self._at(each, {"": value}, [""]) for each in conditions)

    def _at(self, condition: Condition, document: Mapping[str, Json], path: list[str]) -> bool:
        match condition:
            case Compare(Comparison.NE, value):
                return not self._at(Compare(Comparison.EQ, value), document, path)
            case Among(values, True):
                return not self._at(Among(values), document, path)
            case Exists(False):
                return not self._at(Exists(True), document, path)
            case Not(conditions):
                return not all(self._at(each, document, path) for each in conditions)
            case HasAll(values):
                equal = [Compare(Comparison.EQ, value) for value in values]
                return bool(equal) and all(self._at(each, document, path) for each in equal)
            case AllElements(tests):
                return bool(tests) and all(self._at(each, document, path) for each in tests)
        whole = isinstance(condition, HasSize | AnyElement)
        return any(self._single(condition, each) for each in reached(document, path, whole=whole))

    def _single(self, condition: Condition, value: Any) -> bool:
        """Of one value, without a look into it when it is an array."""
        self._effort.spend(filter_order.weight(value))
        match condition:
            case Compare(by, operand):
                return self._compares(by, value, operand)
            case Among(values, negated):
                return any(self._equals(value, each) for each in values) is not negated
            case Exists(wanted):
                return (value is not _MISSING) is wanted
            case HasSize(size):
                return isinstance(value, list) and len(value) == size
            case MatchesText():
                return isinstance(value, str) and self._finds(condition, value)
            case Not(conditions):
                return not all(self._single(each, value) for each in conditions)
            case HasAll(values):
                return bool(values) and all(self._equals(value, each) for each in values)
            case AllElements(tests):
                return bool(tests) and all(self._single(each, value) for each in tests)
            case AnyElement(test):
                return isinstance(value, list) and any(self._element(test, each) for each in value)

    def _element(self, test: tuple[Condition, ...] | And, element: Json) -> bool:
        self._effort.spend()
        if not isinstance(test, And):
            return all(self._single(each, element) for each in test)
        if isinstance(element, list):
            element = {str(index): each for index, each in enumerate(element)}
        return isinstance(element, dict) and self.document(test, element)

    def _equals(self, value: Any, operand: Json) -> bool:
        return self._compares(Comparison.EQ, value, operand)

    def _compares(self, by: Comparison, value: Any, operand: Json) -> bool:
        if by is Comparison.NE:
            return not self._equals(value, operand)
        if value is _MISSING:
            value = None
            if operand is not None:
                return False
        known = self._operands.get(id(operand))
        if known is None:
            # The filter keeps its literals, so their ids stay theirs.
            known = self._operands[id(operand)] = _Operand(operand)
        if by is Comparison.EQ:
            return filter_order.key(value) == known.key
        if filter_order.rank(value) != filter_order.rank(operand):
            return False
        if operand is None:
            return by in (Comparison.GTE, Comparison.LTE)
        return bool(_ORDERED[by](filter_order.sort_key(value), known.sort_key))

    def _finds(self, pattern: MatchesText, text: str) -> bool:
        automaton = self._automata.get(pattern)
        if automaton is None:
            automaton = self._automata[pattern] = Automaton(pattern, "$regex")
        return automaton.finds(text, self._effort)


def reached(document: Mapping[str, Json], path: list[str], *, whole: bool) -> Iterator[Any]:
    """The values that a path leads to; `whole`: an array at its end counts only as itself."""
    value: Any = document
    for index, part in enumerate(path):
        value = value.get(part, _MISSING) if isinstance(value, Mapping) else _MISSING
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
