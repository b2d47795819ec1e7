from typing import Any

import pytest

from pipeline.errors import InvalidInput
from pipeline.rules.filter_tree import Among, And, At, Compare, Comparison
from pipeline.rules.update_tree import (
    AddToSet,
    EqualTo,
    Increment,
    Meets,
    Pull,
    Push,
    Rename,
    Set,
    Unset,
    UpdateFields,
)
from pipeline.rules.updates import check_keys, parse

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
        ({"$pull": {"tags": {"$in": ["ai"]}}}, Pull(("tags",), Meets((Among(("ai",)),)))),
        (
            {"$pull": {"config.list": {"a": 1}}},
            Pull(("config", "list"), And((At("a", (Compare(Comparison.EQ, 1),)),))),
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
