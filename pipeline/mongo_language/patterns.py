"""Regular expressions that callers write: can they be made to run for ever, and do they match?

The store runs PCRE. Python's own parser reads nearly the same language and gives the tree that
tells how repetitions are nested; where the two differ, the expression is first made to say the
same in both, or refused.

Here RE2 searches, in time proportional to text and expression. It gets the tree, written so that
it says to RE2 what it says to the store. What needs backtracking (back-references, look-around,
atomic groups) is refused here; the store's own engine takes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final, TypeAlias

from pipeline.errors import InvalidInput
from pipeline.mongo_language.tree import Effort, MatchesText, refuse
from pipeline.strict_json import check_text

Node: TypeAlias = tuple[Any, Any]
"""Operator and operands, as Python's parser gives them."""

MANY: Final = 10
"""More repetitions than this count as unbounded."""
REPEAT_MAX: Final = 65_535
"""PCRE's."""

# Private, stable since Python 3.11, and the only parser of this language in the standard library.
_parser: Final = import_module("re._parser")
MAXREPEAT: Final = _parser.MAXREPEAT

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
            if most > REPEAT_MAX and operands[1] is not MAXREPEAT:
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


STEPS: Final = 8
"""Instructions of a compiled expression that count as one unit of effort for each character."""
_HIGHEST: Final = 0x10FFFF


class TextSearch:
    """Raises InvalidInput for expressions beyond this engine."""

    def __init__(self, text: MatchesText, where: str) -> None:
        # Only updates that pull by an expression need it, and it takes megabytes.
        import re2

        nodes, flags = parse_pattern(text, where)
        options = re2.Options()
        options.log_errors = False
        writer = _Writer(where)
        written = writer.sequence(nodes, flags, _End())
        try:
            self._compiled = re2.compile(written, options)
        except re2.error:
            told = "the regular expression is too large to be used here."
            raise refuse(where, told) from None
        self._where = where
        self._is_vague = writer.is_vague
        self._units = 1 + self._compiled.programsize // STEPS

    def finds(self, text: str, effort: Effort) -> bool:
        """Whether it matches anywhere. Raises InvalidInput when `effort` is used up."""
        effort.spend((len(text) + 1) * self._units)
        if not text.endswith("\n"):
            return self._compiled.search(text) is not None
        if self._is_vague:
            told = "what follows $, or ^ with m, cannot be told of text that ends in a newline."
            raise refuse(self._where, told)
        # The end is also before a newline that is the last character.
        return any(self._compiled.search(each) for each in (text, text[:-1]))


@dataclass(frozen=True, slots=True)
class _End:
    """What comes after a part of an expression, up to its end."""

    may_read: bool = False
    must_read: bool = False


class _Writer:
    """Writes a tree for RE2. A last newline is where it knows two places less than the store:
    before it `$` holds, and behind it `^` does not; `is_vague` when that may make a difference."""

    def __init__(self, where: str) -> None:
        self._where = where
        self.is_vague = False

    def sequence(self, nodes: Iterable[Node], flags: int, end: _End) -> str:
        parts = []
        for op, operands in reversed(list(nodes)):
            parts.append(self._node(str(op), operands, flags, end))
            reads = _least(str(op), operands) > 0
            end = _End(end.may_read or str(op) != "AT", end.must_read or reads)
        return "".join(reversed(parts))

    def _node(self, op: str, operands: Any, flags: int, end: _End) -> str:
        match op:
            case "BRANCH":
                parts = (self.sequence(part, flags, end) for part in operands[1])
                return f"(?:{'|'.join(parts)})"
            case "SUBPATTERN":
                _, added, removed, inner = operands
                return f"(?:{self.sequence(inner, (flags | added) & ~removed, end)})"
            case "AT":
                return self._place(str(operands), flags, end)
            case "ANY":
                return "(?s:.)" if flags & re.S else "(?-s:.)"
            case "LITERAL":
                return _folded(_character(operands), flags)
            case "NOT_LITERAL":
                return _folded(f"[^{_character(operands)}]", flags)
            case "IN":
                items = "".join(_item(str(op), item) for op, item in operands)
                return _folded(f"[{items}]", flags)
            case "MAX_REPEAT" | "MIN_REPEAT":
                least, most, inner = operands
                upper = "" if most is MAXREPEAT else most
                again = _End(True, end.must_read)
                return f"(?:{self.sequence(inner, flags, again)}){{{least},{upper}}}"
        raise refuse(self._where, "back-references and look-around cannot be used here.")

    def _place(self, name: str, flags: int, end: _End) -> str:
        if name == "AT_BEGINNING" and flags & re.M:
            self.is_vague |= not end.must_read
            return "(?m:^)"
        if name == "AT_END" and flags & re.M:
            return "(?m:$)"
        self.is_vague |= name in ("AT_END", "AT_END_STRING") and end.may_read
        return _PLACES[name]


def _least(op: str, operands: Any) -> int:
    """Characters that a part reads at least."""
    match op:
        case "LITERAL" | "NOT_LITERAL" | "ANY" | "IN":
            return 1
        case "BRANCH":
            return min(int(part.getwidth()[0]) for part in operands[1])
        case "SUBPATTERN":
            return int(operands[3].getwidth()[0])
        case "MAX_REPEAT" | "MIN_REPEAT":
            return int(operands[0] * operands[2].getwidth()[0])
        case _:
            return 0


def _folded(reads: str, flags: int) -> str:
    return f"(?i:{reads})" if flags & re.I else reads


def _character(code: int) -> str:
    return f"\\x{{{code:x}}}"


def _item(op: str, operands: Any) -> str:
    match op:
        case "NEGATE":
            return "^"
        case "RANGE":
            return "-".join(map(_character, operands))
        case "CATEGORY":
            return _CATEGORIES[str(operands)]
    return _character(operands)


# RE2 leaves the vertical tab out of \s.
_CATEGORIES: Final = {
    "CATEGORY_DIGIT": r"\d",
    "CATEGORY_NOT_DIGIT": r"\D",
    "CATEGORY_SPACE": r"\x{9}-\x{d}\x{20}",
    "CATEGORY_NOT_SPACE": rf"\x{{0}}-\x{{8}}\x{{e}}-\x{{1f}}\x{{21}}-\x{{{_HIGHEST:x}}}",
    "CATEGORY_WORD": r"\w",
    "CATEGORY_NOT_WORD": r"\W",
}


_PLACES: Final = {
    "AT_BEGINNING": r"\A",
    "AT_BEGINNING_STRING": r"\A",
    "AT_END": r"\z",
    # PCRE reads \Z as Python reads $.
    "AT_END_STRING": r"\z",
    "AT_BOUNDARY": r"\b",
    "AT_NON_BOUNDARY": r"\B",
}
