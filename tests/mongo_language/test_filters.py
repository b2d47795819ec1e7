import json
from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline.errors import InvalidInput
from pipeline.mongo_language.filters import FilterFields, parse, read, sort_path, to_query
from pipeline.mongo_language.tree import (
    AllElements,
    And,
    AnyElement,
    At,
    Compare,
    Limits,
    MatchesText,
    Nor,
    Not,
    Operator,
    Or,
)

EQ, GT = Operator.EQ, Operator.GT


def refusal(body: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        parse(body)
    return str(caught.value)


def nested(levels: int) -> Any:
    body: Any = {"a": 1}
    for _ in range(levels):
        body = {"$and": [body]}
    return body


def test_the_empty_filter_matches_everything() -> None:
    assert parse({}) == And(())


def test_the_seed_s_example_reads_as_meant() -> None:
    body = {"container_registry_tags": {"$in": ["ai", "internal"]}}
    assert parse(body) == And(
        (At("container_registry_tags", (Compare(Operator.IN, ("ai", "internal")),)),)
    )


@pytest.mark.parametrize(
    ("test", "condition"),
    [
        (1, Compare(EQ, 1)),
        (None, Compare(EQ, None)),
        ([1, {"a": 2}], Compare(EQ, [1, {"a": 2}])),
        ({}, Compare(EQ, {})),
        ({"b": 1, "c": {"d": 2}}, Compare(EQ, {"b": 1, "c": {"d": 2}})),
        ({"$gt": 1}, Compare(GT, 1)),
        ({"$ne": {"b": 1}}, Compare(Operator.NE, {"b": 1})),
        ({"$nin": []}, Compare(Operator.NIN, ())),
        ({"$exists": False}, Compare(Operator.EXISTS, False)),
        ({"$exists": 1}, Compare(Operator.EXISTS, True)),
        ({"$exists": 0}, Compare(Operator.EXISTS, False)),
        ({"$exists": 0.0}, Compare(Operator.EXISTS, False)),
        ({"$exists": -1.5}, Compare(Operator.EXISTS, True)),
        ({"$size": 0}, Compare(Operator.SIZE, 0)),
        ({"$all": ["a", "b"]}, Compare(Operator.ALL, ("a", "b"))),
        ({"$regex": "^a", "$options": "mi"}, MatchesText("^a", "im")),
        ({"$options": "ii", "$regex": "a"}, MatchesText("a", "i")),
        ({"$not": {"$gt": 1}}, Not((Compare(GT, 1),))),
        ({"$not": {"$regex": "a"}}, Not((MatchesText("a"),))),
        ({"$elemMatch": {"$gt": 1}}, AnyElement((Compare(GT, 1),))),
        ({"$elemMatch": {"b": 1}}, AnyElement(And((At("b", (Compare(EQ, 1),)),)))),
        ({"$elemMatch": {}}, AnyElement(And(()))),
        ({"$all": [{"$elemMatch": {"$gt": 1}}]}, AllElements((AnyElement((Compare(GT, 1),)),))),
    ],
)
def test_every_listed_operator_is_read(test: Any, condition: Any) -> None:
    assert parse({"a": test}) == And((At("a", (condition,)),))


def test_several_operators_on_one_field_all_count() -> None:
    both = (Compare(GT, 1), Compare(Operator.LT, 9))
    assert parse({"a": {"$gt": 1, "$lt": 9}}) == And((At("a", both),))


def test_logic_is_read_at_any_depth() -> None:
    one = And((At("a", (Compare(EQ, 1),)),))
    body = {"$or": [{"a": 1}, {"$nor": [{"a": 1}, {"$and": [{"a": 1}]}]}]}
    assert parse(body) == And((Or((one, And((Nor((one, And((And((one,)),)))),)))),))


@pytest.mark.parametrize(
    "operator",
    [
        "$where",
        "$expr",
        "$function",
        "$jsonSchema",
        "$text",
        "$comment",
        "$mod",
        "$type",
        "$near",
        "$oid",
        "$date",
        "$accumulator",
        "$rand",
        "$bitsAllSet",
        "$geoWithin",
        "$",
        "$$ROOT",
    ],
)
def test_every_other_operator_is_refused_wherever_it_stands(operator: str) -> None:
    for body in (
        {operator: 1},
        {"a": {operator: 1}},
        {"a": {"$gt": 1, operator: 1}},
        {"a": {"$not": {operator: 1}}},
        {"a": {"$elemMatch": {operator: 1}}},
        {"a": {"$elemMatch": {"b": {operator: 1}}}},
        {"a": {"$eq": {operator: 1}}},
        {"a": {"$in": [{operator: 1}]}},
        {"a": {"$all": [{operator: 1}]}},
        {"a": {"b": {"c": [{operator: 1}]}}},
        {"a": [{operator: 1}]},
        {"$and": [{operator: 1}]},
        {"$or": [{"$nor": [{"a": {"b": {operator: 1}}}]}]},
    ):
        assert "not allowed" in refusal(body)


@pytest.mark.parametrize("body", [None, 1, "a", [], [{}], True])
def test_a_filter_is_an_object(body: Any) -> None:
    assert "must be an object" in refusal(body)


@pytest.mark.parametrize("operator", ["$in", "$nin", "$all"])
@pytest.mark.parametrize("operand", ["ai", 1, None, {"a": 1}])
def test_lists_are_demanded_where_lists_belong(operator: str, operand: Any) -> None:
    assert "takes an array" in refusal({"a": {operator: operand}})


@pytest.mark.parametrize("operator", ["$and", "$or", "$nor"])
def test_logic_takes_a_list_of_filters(operator: str) -> None:
    assert "takes an array" in refusal({operator: {"a": 1}})
    assert "at least one" in refusal({operator: []})
    assert "must be an object" in refusal({operator: [1]})


@pytest.mark.parametrize(
    ("test", "told"),
    [
        ({"$exists": "false"}, "true or false"),
        ({"$exists": None}, "true or false"),
        ({"$size": -1}, "whole number"),
        ({"$size": 1.5}, "whole number"),
        ({"$size": True}, "whole number"),
        ({"$size": "1"}, "whole number"),
        ({"$size": 2**31}, "whole number"),
        ({"$options": "i"}, "$options needs $regex"),
        ({"$regex": "a", "$options": "g"}, "letters of imsx"),
        ({"$regex": "a", "$options": 1}, "letters of imsx"),
        ({"$regex": {"a": 1}}, "takes a string"),
        ({"$regex": None}, "takes a string"),
        ({"$not": 1}, "object of operators"),
        ({"$not": {}}, "object of operators"),
        ({"$not": "a"}, "object of operators"),
        ({"$not": {"b": 1}}, "cannot be mixed"),
        ({"$elemMatch": [1]}, "must be an object"),
        ({"$elemMatch": 1}, "must be an object"),
        ({"$gt": 1, "b": 2}, "cannot be mixed"),
        ({"b": 2, "$gt": 1}, "cannot be mixed"),
        ({"$elemMatch": {"$gt": 1, "b": 2}}, "cannot be mixed"),
        ({"$all": [1, {"$elemMatch": {"b": 1}}]}, "cannot be mixed"),
        ({"$all": [{"$elemMatch": {"b": 1}, "$gt": 1}]}, "cannot be mixed"),
        ({"$and": [{"b": 1}]}, "not allowed"),
    ],
)
def test_a_wrong_operand_is_refused_with_what_belongs_there(test: Any, told: str) -> None:
    assert told in refusal({"a": test})


@pytest.mark.parametrize(
    "path", ["", ".", "a.", ".a", "a..b", "$a", "a.$b", "a.$", "a.$[]", "a\0b"]
)
def test_a_bad_path_is_refused(path: str) -> None:
    refusal({path: 1})
    refusal({"$or": [{path: 1}]})
    refusal({"a": {"$elemMatch": {path: 1, "b": 2}}} if path[:1] != "$" else {path: 1})


@pytest.mark.parametrize(
    "value",
    ["a\0", "\ud800", 2**63, -(2**63) - 1, float("nan"), float("inf"), {"a\0": 1}, ["\udfff"]],
)
def test_a_value_that_the_store_cannot_hold_is_refused(value: Any) -> None:
    for body in ({"a": value}, {"a": {"$gt": value}}, {"a": {"$in": [value]}}):
        refusal(body)


def test_nesting_ends_at_ten() -> None:
    parse(nested(10))
    assert "deeper than 10" in refusal(nested(11))


@pytest.mark.parametrize("wrap", [lambda body: [body], lambda body: {"b": body}])
def test_values_nest_no_deeper_either(wrap: Any) -> None:
    value: Any = 1
    for _ in range(10):
        value = wrap(value)
    parse({"a": value})
    assert "deeper than 10" in refusal({"a": wrap(value)})


@pytest.mark.parametrize(
    "wrap", [lambda test: {"$not": test}, lambda test: {"$elemMatch": {"b": test}}]
)
def test_operators_inside_operators_count_as_depth(wrap: Any) -> None:
    test: Any = {"$gt": 1}
    for _ in range(10):
        test = wrap(test)
    parse({"a": test})
    assert "deeper than 10" in refusal({"a": wrap(test)})


def test_a_filter_nested_without_end_is_refused_not_followed() -> None:
    assert "deeper than 10" in refusal(nested(5000))


@pytest.mark.parametrize("operator", ["$in", "$nin", "$all"])
def test_lists_end_at_a_hundred(operator: str) -> None:
    parse({"a": {operator: list(range(100))}})
    assert "at most 100" in refusal({"a": {operator: list(range(101))}})


@pytest.mark.parametrize("operator", ["$and", "$or", "$nor"])
def test_logic_ends_at_a_hundred(operator: str) -> None:
    parse({operator: [{"a": 1}] * 100})
    assert "at most 100" in refusal({operator: [{"a": 1}] * 101})


def test_an_expression_has_at_most_256_characters() -> None:
    parse({"a": {"$regex": "a" * 256}})
    assert "at most 256" in refusal({"a": {"$regex": "a" * 257}})


def test_a_body_has_at_most_64_kib() -> None:
    body = json.dumps({"a": "x" * (64 * 1024 - 9)}).encode()
    assert len(body) == 64 * 1024
    assert read(body)
    with pytest.raises(InvalidInput, match="65536"):
        read(body + b" ")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"a":NaN}', b"[" * 60_000])
def test_a_body_that_is_no_filter_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        read(body)


def test_limits_are_settings() -> None:
    with pytest.raises(InvalidInput, match="at most 1 elements"):
        parse({"a": {"$in": [1, 2]}}, Limits(elements=1))


def test_a_refusal_names_the_place_and_cuts_long_names() -> None:
    assert refusal({"a.b": {"$in": 1}}).startswith("a.b.$in:")
    assert len(refusal({"a" * 10_000: {"$in": 1}})) < 200
    assert len(refusal({"$" + "a" * 10_000: 1})) < 200


FIELDS = FilterFields(
    stored={"name": "entry.name", "made": "created_at"},
    internal=frozenset({"_id", "org", "outbox"}),
    times=frozenset({"made"}),
)
GUARD = {"org": "acme"}


def query(body: Any) -> Any:
    return to_query(parse(body), FIELDS, GUARD)


def test_the_guard_stands_beside_whatever_the_caller_wrote() -> None:
    assert query({}) == {"$and": [GUARD, {}]}
    assert query({"$or": [{"name": 1}]})["$and"][0] == GUARD


def test_paths_lead_to_where_things_are_stored() -> None:
    assert query({"name.first": "x"})["$and"][1] == {
        "$and": [{"$and": [{"entry.name.first": {"$eq": "x"}}]}]
    }


@pytest.mark.parametrize("path", ["_id", "org", "outbox", "outbox.0", "org.x"])
def test_an_internal_field_cannot_be_queried_at_any_depth(path: str) -> None:
    for body in ({path: 1}, {"$or": [{"$and": [{path: {"$exists": True}}]}]}):
        with pytest.raises(InvalidInput, match="cannot be queried"):
            query(body)


def test_inside_an_element_every_name_is_the_caller_s() -> None:
    assert "'org'" in repr(query({"name": {"$elemMatch": {"org": 1}}}))


def test_an_unknown_field_leads_to_nothing() -> None:
    assert query({"entry.name": "x"})["$and"][1] == {
        "$and": [{"$and": [{"~.entry.name": {"$eq": "x"}}]}]
    }


def test_times_are_compared_as_times() -> None:
    found = query({"made": {"$gte": "2024-05-01T12:00:00Z", "$ne": "never"}})
    assert found["$and"][1]["$and"][0]["$and"] == [
        {"created_at": {"$gte": datetime(2024, 5, 1, 12, tzinfo=UTC)}},
        {"created_at": {"$ne": "never"}},
    ]


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("0001-01-01T00:00:00+23:59", datetime.min),
        ("9999-12-31T23:59:59.999999-23:59", datetime.max),
        ("0001-01-01T00:00:00", datetime.min),
        ("2024-05-01T14:00:00+02:00", datetime(2024, 5, 1, 12)),
    ],
)
def test_every_time_can_be_compared(text: str, nearest: datetime) -> None:
    [clause] = query({"made": {"$lt": text}})["$and"][1]["$and"][0]["$and"]
    assert clause == {"created_at": {"$lt": nearest.replace(tzinfo=UTC)}}


@pytest.mark.parametrize(
    "body",
    [
        {"name": {"$in": [1, 2]}},
        {"name": {"$nin": [1]}},
        {"name": {"$exists": True}},
        {"name": {"$all": [1]}},
        {"name": {"$all": [{"$elemMatch": {"$gt": 1}}]}},
        {"name": {"$size": 2}},
        {"name": {"$elemMatch": {"$gt": 1, "$lt": 5}}},
        {"name": {"$not": {"$gt": 1, "$lt": 5}}},
        {"name": {"$regex": "a", "$options": ""}},
    ],
)
def test_operators_come_back_as_they_were(body: dict[str, Any]) -> None:
    [test] = body.values()
    assert query(body)["$and"][1]["$and"][0]["$and"] == [{"entry.name": test}]


@pytest.mark.parametrize("operator", ["$gte", "$lte"])
def test_an_order_with_null_is_asked_for_as_equality(operator: str) -> None:
    body = {"name": {operator: None, "$ne": 1}, "$or": [{"name.a": {operator: None}}]}
    assert query(body) == query({"name": {"$eq": None, "$ne": 1}, "$or": [{"name.a": None}]})
    inside = {"name": {"$elemMatch": {"a": {operator: None}}}}
    assert query(inside) == query({"name": {"$elemMatch": {"a": {"$eq": None}}}})


def test_sorting_is_by_known_fields_only() -> None:
    assert sort_path("name.first", FIELDS) == "entry.name.first"
    for path in ("other", "_id", "org", ""):
        with pytest.raises(InvalidInput):
            sort_path(path, FIELDS)
