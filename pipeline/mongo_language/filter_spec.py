"""Filter specifications: another way of writing filters, read into the trees of this package.

A specification is a list of expressions (`exact`, `contains`, `isnull`, `compare`, and `and`, `or`
of these) that must all hold, and an order. Whoever has the records says which fields there are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypeAlias

from pipeline import strict_json
from pipeline.errors import InvalidInput
from pipeline.mongo_language import tree
from pipeline.mongo_language.tree import refuse
from pipeline.strict_json import Json

EXPRESSIONS_MAX: Final = 500
"""Of one specification, all together."""
CONTAINED_MAX: Final = 1024
"""No stored text is longer: what is looked for in it cannot be either."""
_SEPARATOR = re.compile(r"\.|__")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,6})?")
_COMPARISONS: Final = {
    "<": tree.Operator.LT,
    ">": tree.Operator.GT,
    "<=": tree.Operator.LTE,
    ">=": tree.Operator.GTE,
}


class Test(Enum):
    EXACT = "exact"
    CONTAINS = "contains"
    IS_NULL = "isnull"
    COMPARE = "compare"


@dataclass(frozen=True, slots=True)
class Leaf:
    """A test of one field."""

    test: Test
    path: tuple[str, ...]
    value: Json = None
    by: tree.Operator = tree.Operator.EQ
    ignores_case: bool = False
    inverted: bool = False


@dataclass(frozen=True, slots=True)
class AllOf:
    parts: tuple[Leaf, ...]
    inverted: bool = False


@dataclass(frozen=True, slots=True)
class AnyOf:
    parts: tuple[Leaf | AllOf, ...]
    inverted: bool = False


Expression: TypeAlias = Leaf | AllOf | AnyOf


@dataclass(frozen=True, slots=True)
class Order:
    path: tuple[str, ...]
    ascending: bool = True
    nulls_first: bool | None = None
    """None: null is the lowest value."""


@dataclass(frozen=True, slots=True)
class Specification:
    expressions: tuple[Expression, ...] = ()
    """All must hold, each by itself."""
    order: tuple[Order, ...] = ()


def parse(body: Json) -> Specification:
    """Null, `{}` and `[]` ask for everything. Raises InvalidInput."""
    if body is None or body == []:
        return Specification()
    given = _object(body, "The filter", {"expressions", "order_by", "include_inactive"})
    if "include_inactive" in given:
        _flag(given, "include_inactive", "include_inactive")
    listed = _list(given.get("expressions", []), "expressions")
    ordered = _list(given.get("order_by", []), "order_by")
    expressions = tuple(_expression(each, "expressions", depth=0) for each in listed)
    if sum(map(_size, expressions)) + len(ordered) > EXPRESSIONS_MAX:
        raise refuse("expressions", f"there are more than {EXPRESSIONS_MAX} of them.")
    return Specification(expressions, tuple(map(_order, ordered)))


def _size(expression: Expression) -> int:
    return 1 if isinstance(expression, Leaf) else 1 + sum(map(_size, expression.parts))


def _expression(body: Json, where: str, depth: int) -> Expression:
    kind = body.get("type") if isinstance(body, dict) else None
    if kind == "or" and depth == 0:
        parts = _parts(body, "or")
        return AnyOf(
            tuple(_within_or(each) for each in parts), inverted=_flag(body, "invert", "or")
        )
    if kind == "and" and depth < 2:
        leaves = tuple(_leaf(each) for each in _parts(body, "and"))
        return AllOf(leaves, inverted=_flag(body, "invert", "and"))
    return _leaf(body)


def _within_or(body: Json) -> Leaf | AllOf:
    part = _expression(body, "or", depth=1)
    assert not isinstance(part, AnyOf), "an or is read at the top only"
    return part


def _parts(body: Json, kind: str) -> list[Json]:
    given = _object(body, kind, {"type", "sub_expressions", "invert"}, {"sub_expressions"})
    parts = _list(given["sub_expressions"], f"{kind}.sub_expressions")
    if len(parts) < 2:
        raise refuse(kind, "it takes at least two sub_expressions.")
    return parts


_KEYS: Final[Mapping[str, tuple[frozenset[str], frozenset[str]]]] = {
    "exact": (frozenset({"field", "value"}), frozenset({"case_insensitive"})),
    "contains": (frozenset({"field", "sub_string"}), frozenset({"case_insensitive"})),
    "isnull": (frozenset({"field"}), frozenset()),
    "compare": (frozenset({"field", "operator", "value"}), frozenset()),
}
"""Keys that a test must have, and those that it may have besides `type` and `invert`."""


def _leaf(body: Json) -> Leaf:
    kind = body.get("type") if isinstance(body, dict) else None
    if not isinstance(kind, str) or kind not in _KEYS:
        raise refuse("expressions", "an expression of this type cannot stand here.")
    required, optional = _KEYS[kind]
    given = _object(body, kind, {"type", "invert", *required, *optional}, required)
    by = tree.Operator.EQ
    if "operator" in given:
        sign = given["operator"]
        if not isinstance(sign, str) or sign not in _COMPARISONS:
            raise refuse(kind, f"operator is one of {' '.join(_COMPARISONS)}.")
        by = _COMPARISONS[sign]
    return Leaf(
        Test(kind),
        _path(given["field"], kind),
        _value(given, kind),
        by,
        ignores_case=_flag(given, "case_insensitive", kind),
        inverted=_flag(given, "invert", kind),
    )


def _value(given: Mapping[str, Json], kind: str) -> Json:
    if kind == "contains":
        text = given["sub_string"]
        if not isinstance(text, str) or not text:
            raise refuse(kind, "sub_string is a text that is not empty.")
        return text
    value = given.get("value")
    if kind == "isnull":
        return None
    if not isinstance(value, str | int | float) or (kind == "compare" and isinstance(value, bool)):
        raise refuse(kind, "value is a text or a number, for exact also true or false.")
    return value


def _order(body: Json) -> Order:
    given = _object(body, "order_by", {"field", "ascending", "nulls_first"}, {"field"})
    return Order(
        _path(given["field"], "order_by"),
        _flag(given, "ascending", "order_by", default=True),
        _flag(given, "nulls_first", "order_by") if "nulls_first" in given else None,
    )


def _path(field: Json, where: str) -> tuple[str, ...]:
    if not isinstance(field, str) or not field:
        raise refuse(where, "field is a text that is not empty.")
    return tuple(_SEPARATOR.split(field))


def _object(
    body: Json, where: str, known: Collection[str], required: Collection[str] = ()
) -> dict[str, Json]:
    if not isinstance(body, dict):
        raise refuse(where, "it must be an object.")
    if extra := sorted(body.keys() - set(known)):
        raise refuse(where, f"{extra[0][:50]} is not known here.")
    if lacking := sorted(set(required) - body.keys()):
        raise refuse(where, f"{lacking[0]} is missing.")
    return body


def _list(value: Json, where: str) -> list[Json]:
    if not isinstance(value, list):
        raise refuse(where, "it must be an array.")
    return value


def _flag(given: Mapping[str, Json], name: str, where: str, *, default: bool = False) -> bool:
    value = given.get(name, default)
    if not isinstance(value, bool):
        raise refuse(where, f"{name} is true or false.")
    return value


# --- What a test of a field is in the trees of this package


class Kind(Enum):
    TEXT = "text"
    NUMBER = "number"
    FLAG = "flag"


@dataclass(frozen=True, slots=True)
class StoredField:
    """Where a field is stored, and what it holds."""

    path: str
    kind: Kind = Kind.TEXT
    printed: str = ""
    """Of a number: where it is stored as text."""
    is_list: bool = False


def tested(leaf: Leaf, field: StoredField) -> tree.Clause:
    """What the test asks for, not inverted. Raises InvalidInput for an unsuitable value."""
    match leaf.test:
        case Test.IS_NULL if field.is_list:
            return _at(field.path, tree.Compare(tree.Operator.SIZE, 0))
        case Test.IS_NULL:
            return _at(field.path, tree.Compare(tree.Operator.EQ, None))
        case Test.CONTAINS:
            return _contains(leaf, field)
    if field.kind is Kind.FLAG:
        if leaf.test is not Test.EXACT or not isinstance(leaf.value, bool):
            raise _unsuitable(leaf)
        return _at(field.path, tree.Compare(tree.Operator.EQ, leaf.value))
    if field.kind is Kind.NUMBER:
        return _at(field.path, tree.Compare(leaf.by, _number(leaf)))
    text = _text(leaf)
    if not leaf.ignores_case:
        return _at(field.path, tree.Compare(leaf.by, text))
    # What is stored has no line break at its end, before which `$` would match, too.
    return _matching(field.path, f"^{re.escape(text)}$", text, ignores_case=True)


def _contains(leaf: Leaf, field: StoredField) -> tree.Clause:
    if field.kind is Kind.FLAG:
        raise _unsuitable(leaf)
    path = field.printed if field.kind is Kind.NUMBER else field.path
    text = _text(leaf)
    return _matching(path, re.escape(text), text, ignores_case=leaf.ignores_case)


def _matching(path: str, pattern: str, text: str, *, ignores_case: bool) -> tree.Clause:
    if len(text) > CONTAINED_MAX:
        return _at(path, tree.Compare(tree.Operator.IN, ()))
    return _at(path, tree.MatchesText(pattern, "i" if ignores_case else ""))


def _at(path: str, condition: tree.Condition) -> tree.At:
    return tree.At(path, (condition,))


def _text(leaf: Leaf) -> str:
    if isinstance(leaf.value, bool):
        raise _unsuitable(leaf)
    text = str(leaf.value)
    strict_json.check_text(text)
    return text


def _number(leaf: Leaf) -> float | int:
    """Of numbers that cannot be stored the nearest one that no stored one equals."""
    value = leaf.value
    if isinstance(value, bool):
        raise _unsuitable(leaf)
    if isinstance(value, str):
        written = value.strip()
        if len(written) > CONTAINED_MAX or not _NUMBER.fullmatch(written):
            raise _unsuitable(leaf)
        value = int(written) if written.lstrip("+-").isdecimal() else float(written)
    if isinstance(value, int) and not strict_json.INT_MIN <= value <= strict_json.INT_MAX:
        return math.inf if value > 0 else -math.inf
    return float(value) if isinstance(value, float) else int(value)


def _unsuitable(leaf: Leaf) -> InvalidInput:
    return refuse(".".join(leaf.path), "the value does not suit this field.")


def inverted(clause: tree.Clause, leaf: Any) -> tree.Clause:
    """Its complement where the expression asks for that."""
    return tree.Nor((clause,)) if leaf.inverted else clause
