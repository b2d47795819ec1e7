"""Filters mean here what they mean to MongoDB: compiled back to a query, and evaluated by us."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, example, given, reject, settings
from hypothesis import strategies as st
from pymongo import MongoClient
from pymongo.collection import Collection

from pipeline.errors import InvalidInput
from pipeline.mongo_language.filters import FilterFields, parse, to_query
from pipeline.mongo_language.matcher import Matcher
from pipeline.mongo_language.tree import Effort
from tests.support.json_values import KEYS, documents, filters

Documents = Collection[dict[str, Any]]

MINE = FilterFields(stored={key: f"content.{key}" for key in KEYS})
GUARD = {"org": "mine"}

several = st.lists(documents, min_size=1, max_size=6)


@pytest.fixture(scope="module")
def client(mongo_url: str) -> Iterator[MongoClient[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](mongo_url) as client:
        yield client


@pytest.fixture
def plain(client: MongoClient[dict[str, Any]]) -> Documents:
    return client[f"test-{uuid4().hex}"]["plain"]


@pytest.fixture
def kept(client: MongoClient[dict[str, Any]]) -> Documents:
    return client[f"test-{uuid4().hex}"]["kept"]


def fill(collection: Documents, records: list[dict[str, Any]]) -> None:
    collection.delete_many({})
    collection.insert_many(records)


def found(collection: Documents, query: dict[str, Any]) -> list[int]:
    return [each["_id"] for each in collection.find(query, {"_id": 1}).sort("_id")]


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(several, filters)
@example([{"a": []}, {"a": [1]}, {"a": [{"b": 1}]}, {"a": [{"x": 1}]}, {"a": 1}, {}], {"a.b": None})
@example([{"a": [[1, 2], 3]}, {"a": [1]}], {"a.0": 1})
@example([{"a": [{"b": [1, 2]}, {"0": {"b": 3}}]}], {"a.0.b": 3})
@example([{"a": [[{"b": 1}]]}], {"a.0.0.b": 1})
@example([{"a": [[1]]}, {"a": [1]}], {"a": {"$elemMatch": {"$elemMatch": {"$gt": 0}}}})
@example([{"a": [[1]]}], {"a": {"$elemMatch": {"0": 1}}})
@example([{"a": 1}, {"a": 1.0}, {"a": True}], {"a": 1})
@example([{"a": {"a": 1, "b": 2}}, {"a": {"b": 2, "a": 1}}], {"a": {"a": 1, "b": 2}})
@example([{"a": [{"a": 1}]}], {"a": {"$all": [{"$elemMatch": {"a": 1}}]}})
@example([{"a": None}, {}, {"a": 0}], {"a": {"$lte": None}})
def test_a_filter_finds_what_the_same_query_finds(
    plain: Documents, kept: Documents, bodies: list[dict[str, Any]], body: dict[str, Any]
) -> None:
    numbered = list(enumerate(bodies))
    fill(plain, [{"_id": index, **each} for index, each in numbered])
    fill(
        kept,
        [{"_id": index, "org": "mine", "content": each} for index, each in numbered]
        + [{"_id": 100 + index, "org": "other", "content": each} for index, each in numbered],
    )
    expected = found(plain, body)
    parsed = parse(body)
    assert found(kept, to_query(parsed, MINE, GUARD)) == expected
    matcher = Matcher(Effort())
    assert [index for index, each in numbered if matcher.document(parsed, each)] == expected


CORNERS: list[dict[str, Any]] = [
    {key: value for key, value in (("a", a), ("b", b)) if value is not ...}
    for a in (
        *(..., None, 0, 1, "a", False, {}, {"a": None}, {"a": 1}, {"0": 1, "b": None}, {"b": []}),
        *([], [None], [1, None], [[]], [[None]], [[1, 2], 3], [{}], [{"a": None}], [{"b": 1}]),
        *([{"a": 1}, {"b": 1}], [{"a": [None, 1]}], {"a": [{"b": 1}, {}]}, {"a": {"b": None}}),
    )
    for b in (..., None, 1, [1])
]


@pytest.fixture(scope="module")
def bare_and_indexed(client: MongoClient[dict[str, Any]]) -> tuple[Documents, Documents]:
    """The same documents without any index, and under indexes as the directory has them."""
    database = client[f"test-{uuid4().hex}"]
    bare, indexed = database["bare"], database["indexed"]
    bare.insert_many([{"_id": at, **each} for at, each in enumerate(CORNERS)])
    indexed.insert_many(
        [{"_id": at, "org": "mine", "content": each} for at, each in enumerate(CORNERS)]
        + [{"_id": -1 - at, "org": "other", "content": each} for at, each in enumerate(CORNERS)]
    )
    indexed.create_index([("content.$**", 1)])
    return bare, indexed


@settings(
    max_examples=1000,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(filters)
@example({"a": {"$gte": None}})
@example({"a.b": {"$lte": None}})
@example({"a": {"$not": {"$gte": None}}})
@example({"a": {"$elemMatch": {"b": {"$gte": None}}}})
@example({"a": {"$elemMatch": {"$lte": None}}})
@example({"a": {"$exists": 0}})
@example({"a": {"$exists": 1}})
def test_an_index_changes_no_answer(
    bare_and_indexed: tuple[Documents, Documents], body: dict[str, Any]
) -> None:
    bare, indexed = bare_and_indexed
    assert found(indexed, to_query(parse(body), MINE, GUARD)) == found(bare, body)


TEXTS = ["", "a", "b", "ab", "AB", "a\n", "a\nb", "ab1 -_", "b b", "[{,", "1a", "a-b:c", "\t", "é"]
PIECES = [
    *(
        "a",
        "b",
        "A",
        "1",
        ".",
        "*",
        "+",
        "?",
        "|",
        "(",
        ")",
        "[",
        "]",
        "^",
        "$",
        "-",
        "&",
        "#",
        " ",
    ),
    *("\\d", "\\w", "\\s", "\\S", "\\b", "\\B", "\\A", "\\Z", "\\1", "\\n", "\\]", "\\x41"),
    *("{2}", "{1,2}", "{,2}", "{", "}", "(?:", "(?i)", "(?i:", "(?s-i:", "(?=", "(?!", "(?P<n>"),
    *("[^", "[[:alpha:]]", "[[:space:]b]", "--", "&&", "*?", "++", "(?>", "[a-"),
]


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)
@given(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=7).map("".join),
    st.sampled_from(["", "i", "m", "s", "x", "im", "isx"]),
)
@example("a#", "x")
@example("[[:alpha:]]+[&&]", "")
@example("a{,2}", "")
def test_what_we_take_for_a_regular_expression_the_store_takes_and_finds_the_same(
    texts: Documents, pattern: str, options: str
) -> None:
    try:
        parsed = parse({"a": {"$regex": pattern, "$options": options}})
    except InvalidInput:
        reject()
    expected = found(texts, to_query(parsed, FilterFields(stored={"a": "a"}), {}))
    matcher = Matcher(Effort())
    try:
        mine = [at for at, text in enumerate(TEXTS) if matcher.document(parsed, {"a": text})]
    except InvalidInput:
        # Look-around and its like are for the store alone.
        reject()
    assert mine == expected


@pytest.fixture(scope="module")
def texts(client: MongoClient[dict[str, Any]]) -> Documents:
    collection = client[f"test-{uuid4().hex}"]["texts"]
    fill(collection, [{"_id": index, "a": text} for index, text in enumerate(TEXTS)])
    return collection
