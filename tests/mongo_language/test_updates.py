import copy
from typing import Any

import pytest
from hypothesis import given

from pipeline.errors import InvalidInput
from pipeline.mongo_language.tree import (
    AddToSet,
    And,
    At,
    Compare,
    EqualTo,
    Increment,
    Operator,
    Pull,
    Push,
    Rename,
    Set,
    Unset,
    UpdateFields,
)
from pipeline.mongo_language.updates import apply, changed_fields, check_keys, parse
from tests.support.json_values import KEYS, documents, updates

FIELDS = UpdateFields(
    writable=frozenset({"id", "name", "prefix", "tags", "config"}),
    deep=frozenset({"tags", "config"}),
    fixed=frozenset({"id"}),
)


def changes(body: Any) -> Any:
    return parse(body, FIELDS).changes


def refusal(body: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        parse(body, FIELDS)
    return str(caught.value)


def test_a_partial_document_is_a_set() -> None:
    body = {"name": "new", "config": {"a": 1}}
    assert changes(body) == changes({"$set": body})
    assert changes(body) == (Set(("config",), {"a": 1}), Set(("name",), "new"))


@pytest.mark.parametrize(
    ("body", "change"),
    [
        ({"$set": {"config.a.b": [1]}}, Set(("config", "a", "b"), [1])),
        ({"$unset": {"config": ""}}, Unset(("config",))),
        ({"$unset": {"config": {"$any": 1}}}, Unset(("config",))),
        ({"$push": {"tags": "ai"}}, Push(("tags",), ("ai",))),
        ({"$push": {"tags": ["ai"]}}, Push(("tags",), (["ai"],))),
        ({"$push": {"tags": {"$each": ["a", "b"]}}}, Push(("tags",), ("a", "b"))),
        ({"$addToSet": {"tags": {"$each": []}}}, AddToSet(("tags",), ())),
        ({"$pull": {"tags": "ai"}}, Pull(("tags",), EqualTo("ai"))),
        ({"$pull": {"tags": ["ai"]}}, Pull(("tags",), EqualTo(["ai"]))),
        ({"$pull": {"tags": {"$in": ["ai"]}}}, Pull(("tags",), (Compare(Operator.IN, ("ai",)),))),
        (
            {"$pull": {"config.list": {"a": 1}}},
            Pull(("config", "list"), And((At("a", (Compare(Operator.EQ, 1),)),))),
        ),
        ({"$inc": {"config.n": -2}}, Increment(("config", "n"), -2)),
        ({"$rename": {"config.a": "config.b"}}, Rename(("config", "a"), ("config", "b"))),
    ],
)
def test_every_listed_operator_is_read(body: Any, change: Any) -> None:
    assert changes(body) == (change,)


@pytest.mark.parametrize("body", [{}, [], None, 1, "a", [{"$set": {"name": "x"}}]])
def test_an_update_is_an_object_that_names_something(body: Any) -> None:
    assert "must be an object" in refusal(body)


def test_operators_and_fields_cannot_be_mixed() -> None:
    assert "cannot be mixed" in refusal({"$set": {"name": "x"}, "prefix": "y"})


@pytest.mark.parametrize(
    "operator",
    ["$setOnInsert", "$mul", "$min", "$max", "$currentDate", "$pop", "$pullAll", "$bit", "$where"],
)
def test_every_other_operator_is_refused(operator: str) -> None:
    assert "not allowed" in refusal({operator: {"name": 1}})
    assert "not allowed" in refusal({"$set": {"name": "x"}, operator: {"prefix": 1}})


@pytest.mark.parametrize("operator", ["$set", "$unset", "$push", "$pull", "$addToSet", "$inc"])
@pytest.mark.parametrize("argument", [{}, [], None, "name", 1])
def test_an_argument_is_an_object_that_is_not_empty(operator: str, argument: Any) -> None:
    assert "names at least one field" in refusal({operator: argument})


@pytest.mark.parametrize("path", ["other", "_id", "health", "created_at", "other.a"])
def test_unknown_and_read_only_fields_are_refused(path: str) -> None:
    for body in ({path: 1}, {"$set": {path: 1}}, {"$unset": {path: ""}}, {"$pull": {path: 1}}):
        assert "no such field" in refusal(body)
    assert "no such field" in refusal({"$rename": {"name": path}})
    assert "no such field" in refusal({"$rename": {path: "name"}})


def test_dots_reach_only_into_fields_that_have_parts() -> None:
    assert "no fields of its own" in refusal({"name.first": "x"})


@pytest.mark.parametrize(
    "path",
    ["tags.$", "tags.$[]", "tags.$[x].a", "$set", "config.", "config..a", "", ".", "tags.\0"],
)
def test_positional_and_broken_paths_are_refused(path: str) -> None:
    refusal({"$set": {path: 1}})
    refusal({"$rename": {"config.a": path}})


@pytest.mark.parametrize(
    "body",
    [
        {"$set": {"config": {}}, "$unset": {"config.a": ""}},
        {"$set": {"config.a": 1, "config.a.b": 2}},
        {"$set": {"tags": []}, "$push": {"tags": "x"}},
        {"$push": {"tags": "x"}, "$pull": {"tags": "y"}},
        {"$rename": {"config.a": "config.b"}, "$set": {"config.b": 1}},
        {"$rename": {"config.a": "config.a"}},
        {"$rename": {"config.a": "config.a.b"}},
        {"$rename": {"config.a": "config.c", "config.b": "config.c"}},
    ],
)
def test_two_changes_of_one_place_conflict(body: Any) -> None:
    assert "conflicts with" in refusal(body)


def test_paths_that_only_begin_alike_do_not_conflict() -> None:
    assert len(changes({"config.a": 1, "config.ab": 2, "config.b": 3})) == 3


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"$inc": {"config.n": "1"}}, "takes a number"),
        ({"$inc": {"config.n": True}}, "takes a number"),
        ({"$inc": {"config.n": None}}, "takes a number"),
        ({"$inc": {"config.n": float("nan")}}, "finite"),
        ({"$inc": {"config.n": 2**63}}, "64 bits"),
        ({"$rename": {"config.a": 1}}, "takes the new name"),
        ({"$rename": {"config.a": ""}}, "takes the new name"),
        ({"$push": {"tags": {"$each": "x"}}}, "takes an array"),
        ({"$push": {"tags": {"$each": [], "$slice": 1}}}, "nothing is allowed"),
        ({"$push": {"tags": {"$each": [], "$sort": 1}}}, "nothing is allowed"),
        ({"$push": {"tags": {"$slice": 1}}}, "keys may not"),
        ({"$pull": {"tags": {"$where": "1"}}}, "not allowed"),
        ({"$pull": {"tags": {"a": {"$expr": 1}}}}, "not allowed"),
        ({"$pull": {"tags": {"$regex": "(a+)+"}}}, "inside another"),
        ({"$pull": {"tags": [{"$oid": "x"}]}}, "not allowed inside a value"),
    ],
)
def test_a_wrong_operand_is_refused_with_what_belongs_there(body: Any, told: str) -> None:
    assert told in refusal(body)


@pytest.mark.parametrize(
    "value", [{"$a": 1}, {"a.b": 1}, {"": 1}, [{"x": {"$y": 1}}], {"a\0": 1}, "\ud800", 2**63]
)
def test_what_cannot_be_stored_is_not_set(value: Any) -> None:
    for body in (
        {"config": value},
        {"$set": {"config.x": value}},
        {"$push": {"tags": value}},
        {"$addToSet": {"tags": {"$each": [value]}}},
    ):
        refusal(body)


def test_values_nest_as_deep_as_json_may_and_paths_have_forty_segments() -> None:
    path = ".".join(["config"] * 40)
    changes({path: 1})
    assert "at most 40 segments" in refusal({path + ".x": 1})
    value: Any = 1
    for _ in range(64):
        value = [value]
    changes({"config": value})
    changes({"$pull": {"config": value}})
    for body in ({"config": [value]}, {"$push": {"config": [value]}}):
        assert "deeper than 64" in refusal(body)
    assert "deeper than 64" in refusal({"$pull": {"config": [value]}})


def test_a_path_of_many_digits_is_just_a_name() -> None:
    assert changes({"config." + "9" * 5000: 1})


def test_keys_are_checked_at_any_depth() -> None:
    check_keys({"a": [{"b": {"c": 1}}]}, "config")
    with pytest.raises(InvalidInput, match="config"):
        check_keys({"a": [{"b": {"c.d": 1}}]}, "config")


FIELDS = UpdateFields(
    writable=frozenset({"id", "name", "prefix", "tags", "config"}),
    deep=frozenset({"tags", "config"}),
    fixed=frozenset({"id"}),
)
ANYTHING = UpdateFields(writable=frozenset(KEYS), deep=frozenset(KEYS))


def applied(document: Any, body: Any) -> Any:
    return apply(parse(body, FIELDS), document)


def unfit(document: Any, body: Any) -> str:
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
    assert told in unfit(document, body)


def test_the_id_may_be_named_but_not_changed() -> None:
    document = {"id": "one", "name": "a"}
    assert applied(document, {"id": "one", "name": "b"}) == {"id": "one", "name": "b"}
    for body in (
        {"id": "two"},
        {"$unset": {"id": ""}},
        {"$rename": {"id": "name"}},
        {"$rename": {"name": "id"}},
    ):
        assert unfit(document, body) == "id cannot be changed"


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
    assert "takes too long" in unfit(document, {"$pull": {"tags": {"$regex": "(a|ab|b)*c"}}})
