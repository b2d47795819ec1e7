"""How MongoDB compares JSON values: by type first, numbers by value, documents field by field.

https://www.mongodb.com/docs/manual/reference/bson-type-comparison-order/
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from pipeline.rules.strict_json import Json


def rank(value: Json) -> int:
    """Values of different ranks are never equal and not ordered by `$gt` and its kin."""
    match value:
        case None:
            return 0
        case bool():
            return 5
        case int() | float():
            return 1
        case str():
            return 2
        case dict():
            return 3
        case _:
            return 4


def key(value: Json) -> Hashable:
    """Two values are equal to MongoDB exactly when their keys are: 1 and 1.0 are, 1 and true not.

    Fields of documents count in their order.
    """
    match value:
        case dict():
            return 3, tuple((name, key(each)) for name, each in value.items())
        case list():
            return 4, tuple(key(each) for each in value)
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
