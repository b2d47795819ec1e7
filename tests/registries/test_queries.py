"""What a search of the registry directory may name, and what it may cost."""

from __future__ import annotations

from typing import Any

import pytest

from api.registry_db.documents import SEARCHED, paging
from pipeline.errors import InvalidInput
from pipeline.mongo_language import filters
from pipeline.registries.queries import Paging, is_cheap
from schemas.registries.registry import Registry

TAGS = "container_registry_tags"
NAME = "container_registry_name"
ID = "container_registry_id"
ENV = "container_registry_metadata.environment"


def test_every_field_of_the_record_is_either_shown_or_internal() -> None:
    shown = set(SEARCHED.stored.values()) - {"changed_at"}
    assert shown | SEARCHED.internal | {"updated_at"} == {"_id", *Registry.model_fields}
    assert not shown & SEARCHED.internal
    assert not set(SEARCHED.stored) & SEARCHED.internal
    assert SEARCHED.stored["updated_at"] == "changed_at"


def test_pages_begin_with_the_oldest_hundred() -> None:
    assert paging({}) == Paging(100, 0, (("created_at", 1), ("id", 1)))


def test_the_id_breaks_ties_once() -> None:
    assert paging({"sort": f"-{NAME}"}).sort == (("name", -1), ("id", 1))
    assert paging({"sort": f"-{ID}"}).sort == (("id", -1),)
    assert paging({"sort": "updated_at"}).sort == (("changed_at", 1), ("id", 1))


def test_numbers_beyond_reason_are_clamped() -> None:
    huge = "9" * 5000
    assert paging({"limit": huge}).limit == 1000
    assert paging({"offset": huge}).offset == 2**53


@pytest.mark.parametrize("query", [{"limit": "-1"}, {"offset": "1.5"}, {"sort": "_id"}], ids=str)
def test_malformed_paging_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        paging(query)


CHEAP: list[Any] = [
    {TAGS: "ai"},
    {TAGS: {"$in": ["ai", "internal"]}},
    {TAGS: {"$all": ["ai"]}},
    {ID: "x"},
    {NAME: "x"},
    {ENV: "prod"},
    {ENV: 1, "container_registry_config.a": {"$gt": 1}},
    {"$and": [{TAGS: "ai"}, {"container_registry_config.a": 1}]},
    {"$or": [{TAGS: "ai"}, {NAME: "x"}]},
    {"container_registry_secret": "x"},
]
COSTLY: list[Any] = [
    {TAGS: {"$nin": ["ai"]}},
    {TAGS: {"$size": 1}},
    {NAME: {"$ne": "x"}},
    {NAME: {"$gt": ""}},
    {ENV: None},
    {ENV: {"$in": ["prod", None]}},
    {ENV: {"a": 1}},
    {ENV: {"$exists": True}},
    {"container_registry_secret": None},
    {"container_registry_config.a": 1},
    {"$or": [{TAGS: "ai"}, {"container_registry_config.a": 1}]},
    {"$nor": [{TAGS: "ai"}]},
    {TAGS: {"$not": {"$in": ["ai"]}}},
    {TAGS: "ai", NAME: {"$regex": "^x"}},
    {TAGS: "ai", NAME: {"$not": {"$regex": "^x"}}},
    {TAGS: {"$in": ["ai"], "$elemMatch": {"$regex": "x"}}},
    {TAGS: {"$in": ["ai"], "$all": [{"$elemMatch": {"$regex": "x"}}]}},
    {"$and": [{TAGS: "ai"}, {"$or": [{"a": {"$elemMatch": {"b": {"$regex": "x"}}}}]}]},
]


@pytest.mark.parametrize("body", CHEAP, ids=str)
def test_what_an_index_narrows_down_is_cheap(body: Any) -> None:
    assert is_cheap(filters.parse(body), SEARCHED, Paging())


@pytest.mark.parametrize("body", COSTLY, ids=str)
def test_what_may_have_to_look_at_everything_is_costly(body: Any) -> None:
    assert not is_cheap(filters.parse(body), SEARCHED, Paging())


def test_a_page_of_everything_is_cheap_in_the_order_of_an_index_only() -> None:
    everything = filters.parse({})
    assert is_cheap(everything, SEARCHED, paging({}))
    assert is_cheap(everything, SEARCHED, paging({"sort": "-created_at"}))
    assert not is_cheap(everything, SEARCHED, paging({"sort": ENV}))
