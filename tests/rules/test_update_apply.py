import copy
from typing import Any

import pytest
from hypothesis import given

from pipeline.errors import InvalidInput
from pipeline.rules.update_apply import apply, changed_fields
from pipeline.rules.update_tree import UpdateFields
from pipeline.rules.updates import parse
from tests.support.json_values import KEYS, documents, updates

FIELDS = UpdateFields(
    writable=frozenset({"id", "name", "prefix", "tags", "config"}),
    deep=frozenset({"tags", "config"}),
    fixed=frozenset({"id"}),
)
ANYTHING = UpdateFields(writable=frozenset(KEYS), deep=frozenset(KEYS))


def applied(document: Any, body: Any) -> Any:
    return apply(parse(body, FIELDS), document)


def refusal(document: Any, body: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        applied(document, body)
    return str(caught.value)


@pytest.mark.parametrize(
    ("document", "body", "expected"),
    [
        ({"name": "a"}, {"name": "b"}, {"name": "b"}),
        ({}, {"$set": {"config.a.b": 1}}, {"config": {"a": {"b": 1}}}),
        ({"tags": ["a", "b"]}, {"$set": {"tags.1": "c"}}, {"tags": ["a", "c"]}),
        ({"tags": ["a"]}, {"$set": {"tags.2": "c"}}, {"tags": ["a", None, "c"]}),
        ({"config": {"a": 1, "b": 2}}, {"$unset": {"config.a": ""}}, {"config": {"b": 2}}),
        ({"name": "a"}, {"$unset": {"name": 1}}, {}),
        ({"tags": ["a", "b"]}, {"$unset": {"tags.0": 1}}, {"tags": [None, "b"]}),
        ({}, {"$push": {"tags": "a"}}, {"tags": ["a"]}),
        ({"tags": ["a"]}, {"$push": {"tags": {"$each": ["a", "b"]}}}, {"tags": ["a", "a", "b"]}),
        ({"tags": ["a"]}, {"$addToSet": {"tags": {"$each": ["a", "b"]}}}, {"tags": ["a", "b"]}),
        ({"tags": ["a", "b", "a"]}, {"$pull": {"tags": "a"}}, {"tags": ["b"]}),
        (
            {"tags": ["ax", "b"]},
            {"$pull": {"tags": {"$regex": "^A", "$options": "i"}}},
            {"tags": ["b"]},
        ),
        ({}, {"$pull": {"tags": "a"}}, {}),
        (
            {"config": {"n": 1}},
            {"$inc": {"config.n": 2, "config.m": 3}},
            {"config": {"n": 3, "m": 3}},
        ),
        ({"config": {"a": 1}}, {"$rename": {"config.a": "config.b"}}, {"config": {"b": 1}}),
        ({"name": "a"}, {"$rename": {"name": "prefix"}}, {"prefix": "a"}),
        ({}, {"$rename": {"name": "prefix"}}, {}),
    ],
)
def test_operators_do_what_mongodb_does(document: Any, body: Any, expected: Any) -> None:
    assert applied(document, body) == expected


@pytest.mark.parametrize(
    ("document", "body", "told"),
    [
        ({"config": {"a": 1}}, {"$set": {"config.a.b": 1}}, "config.a.b"),
        ({"config": {"a": None}}, {"$set": {"config.a.b": 1}}, "config.a.b"),
        ({"tags": ["a"]}, {"$set": {"tags.x": 1}}, "tags.x"),
        ({"tags": ["a"]}, {"$set": {"tags.5000": "x"}}, "only 1 elements"),
        ({"tags": ["a"]}, {"$set": {"tags.999999999999": "x"}}, "tags.999999999999"),
        ({"config": {"a": 1}}, {"$push": {"config.a": 1}}, "no array"),
        ({"config": {"a": {}}}, {"$addToSet": {"config.a": 1}}, "no array"),
        ({"config": {"a": "x"}}, {"$pull": {"config.a": 1}}, "no array"),
        ({"config": {"a": "x"}}, {"$inc": {"config.a": 1}}, "no number"),
        ({"config": {"a": True}}, {"$inc": {"config.a": 1}}, "no number"),
        ({"config": {"a": 2**63 - 1}}, {"$inc": {"config.a": 1}}, "too large"),
        ({"config": {"a": 1e308}}, {"$inc": {"config.a": 1e308}}, "too large"),
        ({"config": {"a": [1]}}, {"$rename": {"config.a.0": "config.b"}}, "arrays"),
        ({"config": {"a": [1], "b": 2}}, {"$rename": {"config.b": "config.a.0"}}, "arrays"),
        ({"tags": ["a"]}, {"$pull": {"tags": {"$regex": "(?=a)"}}}, "cannot be used here"),
    ],
)
def test_a_change_that_does_not_fit_is_refused(document: Any, body: Any, told: str) -> None:
    assert told in refusal(document, body)


def test_the_id_may_be_named_but_not_changed() -> None:
    document = {"id": "one", "name": "a"}
    assert applied(document, {"id": "one", "name": "b"}) == {"id": "one", "name": "b"}
    for body in (
        {"id": "two"},
        {"$unset": {"id": ""}},
        {"$rename": {"id": "name"}},
        {"$rename": {"name": "id"}},
    ):
        assert refusal(document, body) == "id cannot be changed"


@given(documents, updates)
def test_the_document_given_is_never_touched(document: Any, body: Any) -> None:
    before = copy.deepcopy(document)
    try:
        after = apply(parse(body, ANYTHING), document)
    except InvalidInput:
        after = None
    assert document == before
    if after is not None:
        assert (changed_fields(before, after) == frozenset()) is (repr(before) == repr(after))


def test_values_of_the_update_are_not_shared_with_the_document() -> None:
    update = parse({"config": {"a": []}}, FIELDS)
    apply(update, {})["config"]["a"].append(1)
    assert apply(update, {}) == {"config": {"a": []}}


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"name": "a"}, set()),
        ({"$addToSet": {"tags": "x"}}, set()),
        ({"$pull": {"tags": "y"}}, set()),
        ({"$unset": {"prefix": ""}}, set()),
        ({"$inc": {"config.n": 0}}, set()),
        ({"name": "b"}, {"name"}),
        ({"config.n": 1.0}, {"config"}),
        ({"$push": {"tags": "x"}, "$unset": {"name": ""}}, {"tags", "name"}),
        ({"prefix": None}, {"prefix"}),
    ],
)
def test_the_fields_that_really_changed_are_told(body: Any, fields: set[str]) -> None:
    before = {"name": "a", "tags": ["x"], "config": {"n": 1}}
    assert changed_fields(before, applied(before, body)) == fields


def test_hostile_work_is_cut_off() -> None:
    document = {"tags": ["ab" * 60] * 5000}
    assert "takes too long" in refusal(document, {"$pull": {"tags": {"$regex": "(a|ab|b)*c"}}})
