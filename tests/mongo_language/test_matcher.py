from typing import Any

import pytest
from hypothesis import given

from pipeline.errors import InvalidInput
from pipeline.mongo_language.filters import parse, parse_conditions
from pipeline.mongo_language.matcher import Matcher, equality_key, identical, sort_key
from pipeline.mongo_language.tree import Effort
from tests.support.json_values import values


def matches(body: Any, document: Any, effort: int = 100_000) -> bool:
    return Matcher(Effort(effort)).document(parse(body), document)


@pytest.mark.parametrize(
    ("body", "document"),
    [
        ({}, {}),
        ({"tags": "ai"}, {"tags": ["ai", "gpu"]}),
        ({"tags": ["ai", "gpu"]}, {"tags": ["ai", "gpu"]}),
        ({"a": {"x": 1, "y": 2}}, {"a": {"x": 1, "y": 2}}),
        ({"a": None}, {}),
        ({"a.b": None}, {"a": 1}),
        ({"a.b": 1}, {"a": [{"b": 2}, {"b": 1}]}),
        ({"a.1": 5}, {"a": [4, 5]}),
        ({"a": 1}, {"a": 1.0}),
        ({"a": {"$ne": 1}}, {"a": [2, 3]}),
        ({"a": {"$gte": None}}, {}),
        ({"a": {"$gt": 1, "$lt": 2}}, {"a": [0, 3]}),
        ({"a": {"$regex": "^X", "$options": "i"}}, {"a": ["b", "xy"]}),
        ({"$nor": [{"a": 1}, {"b": 1}]}, {"a": 2}),
    ],
)
def test_the_semantics_of_mongodb_hold(body: Any, document: Any) -> None:
    assert matches(body, document)


@pytest.mark.parametrize(
    ("body", "document"),
    [
        ({"tags": ["gpu", "ai"]}, {"tags": ["ai", "gpu"]}),
        ({"a": {"y": 2, "x": 1}}, {"a": {"x": 1, "y": 2}}),
        ({"a": 1}, {"a": True}),
        ({"a": {"$gt": 1}}, {"a": "2"}),
        ({"a": {"$gt": None}}, {}),
        ({"a.b": None}, {"a": []}),
        ({"a": {"$elemMatch": {"$gt": 1, "$lt": 2}}}, {"a": [0, 3]}),
        ({"a": {"$size": 1}}, {"a": "x"}),
        ({"a": {"$all": []}}, {"a": []}),
        ({"a": {"$not": {"$gt": 1}}}, {"a": 2}),
    ],
)
def test_what_mongodb_tells_apart_is_told_apart(body: Any, document: Any) -> None:
    assert not matches(body, document)


def test_conditions_apply_to_a_bare_value_as_to_a_field() -> None:
    test = parse_conditions({"$in": [1]}, "$pull")
    matcher = Matcher(Effort())
    assert matcher.wrapped(test, 1)
    assert matcher.wrapped(test, [3, 1])
    assert not matcher.wrapped(test, {"a": 1})


def test_effort_is_bounded_by_what_is_looked_at() -> None:
    with pytest.raises(InvalidInput, match="takes too long"):
        matches({"a": {"b": 1}}, {"a": [[1] * 50] * 50}, effort=2000)


ASCENDING = [None, -1, 0, 0.5, 1, "", "A", "a", "é", {}, {"a": 1}, {"a": 1, "b": 0}, [], [1], True]


def test_types_and_values_have_one_order() -> None:
    assert sorted(ASCENDING, key=sort_key) == ASCENDING


@given(values, values)
def test_equal_values_are_not_ordered_and_ordered_ones_not_equal(one: Any, other: Any) -> None:
    before, after = sort_key(one) < sort_key(other), sort_key(other) < sort_key(one)
    assert (equality_key(one) == equality_key(other)) is (not before and not after)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, False),
        ([1], [1.0], True),
        ([1], 1, False),
        (None, False, False),
    ],
)
def test_equality_is_that_of_the_store(one: Any, other: Any, equal: bool) -> None:
    assert (equality_key(one) == equality_key(other)) is equal


@pytest.mark.parametrize(
    ("one", "other"), [(1, 1.0), (1, True), ({"a": 1, "b": 2}, {"b": 2, "a": 1}), ([1], [True])]
)
def test_what_is_stored_differently_is_not_identical(one: Any, other: Any) -> None:
    assert not identical(one, other)
    assert identical(one, one)
    assert not identical([one], [other])
    assert not identical({"x": one}, {"x": other})
