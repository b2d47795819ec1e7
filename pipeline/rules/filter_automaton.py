"""Finds regular expressions in texts in time proportional to both, whatever they look like.

Thompson's construction: every state that an expression could be in is followed at once, so that
nothing is ever tried again. What needs backtracking (back-references, look-around, atomic groups)
is refused here; the store's own engine takes it. Classes mean ASCII, as they do in the store.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.rules.filter_effort import Effort
from pipeline.rules.filter_literals import refuse
from pipeline.rules.filter_patterns import REPEATS, Node, parse_pattern
from pipeline.rules.filter_tree import MatchesText

STATES_MAX: Final = 2000
UNBOUNDED: Final = 65_535

Reads = Callable[[str], bool]
Holds = Callable[[str, int], bool]


@dataclass(slots=True)
class _State:
    """Exactly one of: reads a character, demands something of the place, or goes on freely."""

    reads: Reads | None = None
    holds: Holds | None = None
    follow: list[int] = field(default_factory=list)


class Automaton:
    """Raises InvalidInput for expressions beyond this engine."""

    def __init__(self, text: MatchesText, where: str) -> None:
        self._where = where
        self._states: list[_State] = [_State()]
        nodes, flags = parse_pattern(text, where)
        self._start = self._sequence(nodes, 0, flags)

    def finds(self, text: str, effort: Effort) -> bool:
        """Whether it matches anywhere. Raises InvalidInput when `effort` is used up."""
        current: set[int] = set()
        for at in range(len(text) + 1):
            reached = self._closure({*current, self._start}, text, at)
            effort.spend(len(reached) + 1)
            if 0 in reached:
                return True
            if at < len(text):
                current = self._step(reached, text[at])
        return False

    def _step(self, states: set[int], char: str) -> set[int]:
        follow: set[int] = set()
        for index in states:
            state = self._states[index]
            if state.reads is not None and state.reads(char):
                follow.update(state.follow)
        return follow

    def _closure(self, states: set[int], text: str, at: int) -> set[int]:
        """What is reached without reading, as far as this place allows it."""
        open_, seen = list(states), set(states)
        while open_:
            state = self._states[open_.pop()]
            if state.reads is None and (state.holds is None or state.holds(text, at)):
                new = [index for index in state.follow if index not in seen]
                seen.update(new)
                open_ += new
        return seen

    # --- building: each returns the state from which a part begins that goes on to `after`

    def _sequence(self, nodes: list[Node], after: int, flags: int) -> int:
        for op, operands in reversed(nodes):
            after = self._node(str(op), operands, after, flags)
        return after

    def _node(self, op: str, operands: Any, after: int, flags: int) -> int:
        if op in REPEATS and op != "POSSESSIVE_REPEAT":
            return self._repeat(operands, after, flags)
        match op:
            case "BRANCH":
                parts = [self._sequence(list(part), after, flags) for part in operands[1]]
                return self._add(_State(follow=parts))
            case "SUBPATTERN":
                _, added, removed, inner = operands
                return self._sequence(list(inner), after, (flags | added) & ~removed)
            case "AT":
                return self._add(_State(holds=_place(str(operands), flags), follow=[after]))
            case "LITERAL" | "NOT_LITERAL" | "ANY" | "IN":
                return self._add(_State(reads=_reader(op, operands, flags), follow=[after]))
        raise refuse(self._where, "back-references and look-around cannot be used here.")

    def _repeat(self, operands: Any, after: int, flags: int) -> int:
        least, most, inner = int(operands[0]), int(operands[1]), list(operands[2])
        if most > UNBOUNDED:
            loop = self._add(_State())
            self._states[loop].follow = [self._sequence(inner, loop, flags), after]
            start = loop
        else:
            start = after
            for _ in range(most - least):
                again = self._sequence(inner, start, flags)
                start = self._add(_State(follow=[again, after]))
        for _ in range(least):
            start = self._sequence(inner, start, flags)
        return start

    def _add(self, state: _State) -> int:
        if len(self._states) >= STATES_MAX:
            raise refuse(self._where, "the regular expression is too large to be used here.")
        self._states.append(state)
        return len(self._states) - 1


def _reader(op: str, operands: Any, flags: int) -> Reads:
    match op:
        case "ANY":
            return (lambda char: True) if flags & re.S else (lambda char: char != "\n")
        case "IN":
            return _folding(_member(operands), flags)
    literal = chr(operands)
    reads = _folding(lambda char: char == literal, flags)
    return reads if op == "LITERAL" else lambda char: not reads(char)


def _member(items: list[Node]) -> Reads:
    tests = [_item(str(op), operands) for op, operands in items if str(op) != "NEGATE"]
    negated = str(items[0][0]) == "NEGATE"
    return lambda char: any(test(char) for test in tests) is not negated


def _item(op: str, operands: Any) -> Reads:
    if op == "RANGE":
        low, high = operands
        return lambda char: low <= ord(char) <= high
    if op == "CATEGORY":
        return _CATEGORIES[str(operands)]
    return lambda char: ord(char) == operands


def _folding(reads: Reads, flags: int) -> Reads:
    if not flags & re.I:
        return reads
    return lambda char: reads(char) or reads(char.lower()) or reads(char.upper())


def _is_word(char: str) -> bool:
    return char.isascii() and (char.isalnum() or char == "_")


def _is_digit(char: str) -> bool:
    return char.isascii() and char.isdigit()


def _is_space(char: str) -> bool:
    return char in " \t\n\r\f\v"


_CATEGORIES: Final[dict[str, Reads]] = {
    "CATEGORY_DIGIT": _is_digit,
    "CATEGORY_NOT_DIGIT": lambda char: not _is_digit(char),
    "CATEGORY_SPACE": _is_space,
    "CATEGORY_NOT_SPACE": lambda char: not _is_space(char),
    "CATEGORY_WORD": _is_word,
    "CATEGORY_NOT_WORD": lambda char: not _is_word(char),
}


def _place(name: str, flags: int) -> Holds:
    if flags & re.M:
        name = {"AT_BEGINNING": "AT_LINE_START", "AT_END": "AT_LINE_END"}.get(name, name)
    return _PLACES[name]


def _at_boundary(text: str, at: int) -> bool:
    before = at > 0 and _is_word(text[at - 1])
    return before is not (at < len(text) and _is_word(text[at]))


def _at_end(text: str, at: int) -> bool:
    return at == len(text) or (at == len(text) - 1 and text[at] == "\n")


_PLACES: Final[dict[str, Holds]] = {
    "AT_BEGINNING": lambda text, at: at == 0,
    "AT_BEGINNING_STRING": lambda text, at: at == 0,
    "AT_LINE_START": lambda text, at: at == 0 or (text[at - 1] == "\n" and at < len(text)),
    "AT_LINE_END": lambda text, at: at == len(text) or text[at] == "\n",
    "AT_END": _at_end,
    # PCRE reads \Z as Python reads $.
    "AT_END_STRING": _at_end,
    "AT_BOUNDARY": _at_boundary,
    "AT_NON_BOUNDARY": lambda text, at: not _at_boundary(text, at),
}
