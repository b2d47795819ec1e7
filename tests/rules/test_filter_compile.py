from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline.errors import InvalidInput
from pipeline.rules.filter_compile import FilterFields, sort_path, to_query
from pipeline.rules.filters import parse

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


def test_sorting_is_by_known_fields_only() -> None:
    assert sort_path("name.first", FIELDS) == "entry.name.first"
    for path in ("other", "_id", "org", ""):
        with pytest.raises(InvalidInput):
            sort_path(path, FIELDS)
