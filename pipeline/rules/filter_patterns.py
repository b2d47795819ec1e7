"""Regular expressions that callers write: do they compile, and can they be made to run for ever?

The store runs PCRE. Python's own parser reads nearly the same language and gives the tree that
tells how repetitions are nested; where the two differ, the expression is first made to say the
same in both, or refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any, Final, TypeAlias

from pipeline.errors import InvalidInput
from pipeline.rules.filter_literals import refuse
from pipeline.rules.filter_tree import MatchesText
from pipeline.rules.strict_json import check_text

Node: TypeAlias = tuple[Any, Any]
"""Operator and operands, as Python's parser gives them."""

MANY: Final = 10
"""More repetitions than this count as unbounded."""
REPEAT_MAX: Final = 65_535
"""PCRE's."""

# Private, stable since Python 3.11, and the only parser of this language in the standard library.
_parser: Final = import_module("re._parser")

_FLAGS: Final = {"i": re.I, "m": re.M, "s": re.S, "x": re.X}
REPEATS: Final = ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT")
_POSIX: Final = {
    "alpha": "a-zA-Z",
    "digit": "0-9",
    "alnum": "a-zA-Z0-9",
    "upper": "A-Z",
    "lower": "a-z",
    "space": r"\s",
    "word": r"\w",
    "xdigit": "0-9a-fA-F",
    "punct": r"!-/:-@\[-`{-\~",
}
_POSIX_CLASS: Final = re.compile(r"\[:(\w+):\]")
_NOT_IN_PCRE: Final = frozenset("uUN")
_INLINE_FLAGS: Final = re.compile(r"\(\?[a-zA-Z]*[aLux]")


def check_pattern(text: MatchesText, where: str) -> None:
    """Raises InvalidInput when it does not compile or nests unbounded repetitions."""
    nodes, _ = parse_pattern(text, where)
    try:
        _refuse_nested(nodes, where, repeated=False)
    except RecursionError:
        raise refuse(where, "the regular expression is nested too deep.") from None


def parse_pattern(text: MatchesText, where: str) -> tuple[list[Node], int]:
    """The tree and the flags in force. Raises InvalidInput when it does not compile."""
    check_text(text.pattern)
    flags = re.ASCII
    for option in text.options:
        flags |= _FLAGS[option]
    if _INLINE_FLAGS.search(text.pattern):
        raise refuse(where, "of flags inside an expression only i, m and s are allowed.")
    try:
        pattern = "".join(_as_python(text.pattern, verbose="x" in text.options))
        tree = _parser.parse(pattern, flags)
    except (re.error, ValueError, OverflowError, RecursionError) as error:
        told = error.msg if isinstance(error, re.error) else "it is too large"
        raise refuse(where, f"the regular expression does not compile: {told}.") from None
    return list(tree), int(tree.state.flags)


def children(op: str, operands: Any) -> Iterator[list[Node]]:
    """The parts inside a node."""
    match op:
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            yield list(operands[2])
        case "BRANCH":
            yield from map(list, operands[1])
        case "SUBPATTERN":
            yield list(operands[3])
        case "ASSERT" | "ASSERT_NOT":
            yield list(operands[1])
        case "ATOMIC_GROUP":
            yield list(operands)
        case "GROUPREF_EXISTS":
            yield from (list(part) for part in operands[1:] if part is not None)


def _refuse_nested(nodes: list[Node], where: str, *, repeated: bool) -> None:
    for op, operands in nodes:
        inside = repeated
        if str(op) in REPEATS:
            least, most = int(operands[0]), int(operands[1])
            if most > REPEAT_MAX and operands[1] is not _parser.MAXREPEAT:
                raise refuse(where, f"a repetition counts to {REPEAT_MAX} at most.")
            many = most > MANY
            if repeated and many and least != most:
                raise refuse(where, "an unbounded repetition inside another one is not allowed.")
            inside = repeated or many
        elif str(op).startswith("ASSERT") and operands[0] < 0:
            least, most = operands[1].getwidth()
            if least != most:
                raise refuse(where, "what stands before is looked at only in a fixed length.")
        for part in children(str(op), operands):
            _refuse_nested(part, where, repeated=inside)


def _as_python(pattern: str, *, verbose: bool) -> Iterator[str]:
    """Sets written so that Python reads them as PCRE does, and without its warnings."""
    at = 0
    while at < len(pattern):
        this = pattern[at]
        if this == "[":
            end, text = _set_as_python(pattern, at)
        elif this == "#" and verbose:
            end = pattern.find("\n", at) + 1 or len(pattern)
            text = ""
        elif this == "\\":
            end, text = at + 2, _escape(pattern[at : at + 2])
        elif pattern.startswith("{,", at):
            # Text for PCRE, a repetition for Python.
            end, text = at + 1, r"\{"
        else:
            end, text = at + 1, this
        yield text
        at = end


def _set_as_python(pattern: str, start: int) -> tuple[int, str]:
    """Where the set ends, and how Python writes it."""
    negated = pattern.startswith("^", start + 1)
    at = start + 1 + negated
    first, parts = at, [pattern[start:at]]
    while at < len(pattern) and (pattern[at] != "]" or at == first):
        this = pattern[at]
        named = _POSIX_CLASS.match(pattern, at)
        if named:
            parts.append(_posix(named[1]))
            at = named.end()
        elif this == "\\":
            parts.append(_escape(pattern[at : at + 2]))
            at += 2
        else:
            if pattern.startswith("--", at):
                raise InvalidInput(r"Write \- for a hyphen inside a set of characters.")
            parts.append("\\" + this if this in "[&~|" else this)
            at += 1
    return at + 1, "".join(parts) + pattern[at : at + 1]


def _escape(text: str) -> str:
    if text[1:] in _NOT_IN_PCRE:
        raise InvalidInput(f"The regular expression does not compile: {text} is not known.")
    return text


def _posix(name: str) -> str:
    if name not in _POSIX:
        raise InvalidInput(f"The character class [:{name[:20]}:] is not known.")
    return _POSIX[name]
