from typing import Any

import pytest
from hypothesis import given

from pipeline.rules.filter_order import identical, key, sort_key
from tests.support.json_values import values

ASCENDING = [None, -1, 0, 0.5, 1, "", "A", "a", "é", {}, {"a": 1}, {"a": 1, "b": 0}, [], [1], True]


def test_types_and_values_have_one_order() -> None:
    assert sorted(ASCENDING, key=sort_key) == ASCENDING


@given(values, values)
def test_equal_values_are_not_ordered_and_ordered_ones_not_equal(one: Any, other: Any) -> None:
    before, after = sort_key(one) < sort_key(other), sort_key(other) < sort_key(one)
    assert (key(one) == key(other)) is (not before and not after)


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
    assert (key(one) == key(other)) is equal


@pytest.mark.parametrize(
    ("one", "other"), [(1, 1.0), (1, True), ({"a": 1, "b": 2}, {"b": 2, "a": 1}), ([1], [True])]
)
def test_what_is_stored_differently_is_not_identical(one: Any, other: Any) -> None:
    assert not identical(one, other)
    assert identical(one, one)
    assert not identical([one], [other])
    assert not identical({"x": one}, {"x": other})
