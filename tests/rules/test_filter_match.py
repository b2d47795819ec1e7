from typing import Any

import pytest

from pipeline.errors import InvalidInput
from pipeline.rules.filter_effort import Effort
from pipeline.rules.filter_match import Matcher
from pipeline.rules.filters import parse, parse_conditions


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
