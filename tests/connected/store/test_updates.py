"""Updates do to a document here what they do to it in MongoDB."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import WriteError

from pipeline.errors import InvalidInput
from pipeline.mongo_language.filters import is_operators
from pipeline.mongo_language.tree import UpdateFields
from pipeline.mongo_language.updates import apply, parse
from tests.support.json_values import KEYS, documents, updates

Documents = Collection[dict[str, Any]]

EVERYTHING = UpdateFields(writable=frozenset(KEYS), deep=frozenset(KEYS))


@pytest.fixture(scope="module")
def collection(mongo_url: str) -> Iterator[Documents]:
    with MongoClient[dict[str, Any]](mongo_url) as client:
        yield client[f"test-{uuid4().hex}"]["documents"]


def theirs(collection: Documents, document: dict[str, Any], update: Any) -> str | None:
    """The document as MongoDB leaves it, in JSON; None when it refuses the update."""
    collection.replace_one({"_id": 0}, document, upsert=True)
    try:
        collection.update_one({"_id": 0}, update)
    except WriteError:
        return None
    found = collection.find_one({"_id": 0}) or {}
    found.pop("_id")
    return json.dumps(found)


def ours(document: dict[str, Any], update: Any) -> str | None:
    try:
        return json.dumps(apply(parse(update, EVERYTHING), document))
    except InvalidInput:
        return None


@settings(
    max_examples=500,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(documents, updates)
@example({"a": [1, 2]}, {"$set": {"a.4": 5}})
@example({"a": [1, 2]}, {"$unset": {"a.0": ""}})
@example({"a": {}}, {"$set": {"a.1": 1, "a.0": 0, "a.b": 2, "a.a": 3}})
@example({"a": [{"a": 1, "b": 2}, {"a": 1}, 1]}, {"$pull": {"a": {"a": 1}}})
@example({"a": [[1, 2], 3, 1]}, {"$pull": {"a": {"$in": [1]}}})
@example({"a": [[1, 2], [2]]}, {"$pull": {"a": [1, 2]}})
@example({"a": [1, 1.0, True]}, {"$addToSet": {"a": {"$each": [1, 1.0, False, False]}}})
@example({"a": 1}, {"$inc": {"a": 1.5}})
@example({"a": {"b": 1}}, {"$rename": {"a.b": "b.a"}})
@example({"a": None}, {"$set": {"a.b": 1}})
@example({}, {"$push": {"a": {"$each": []}}})
@example({"a": []}, {"$rename": {"a.0": "b"}})
def test_an_update_leaves_what_mongodb_leaves(
    collection: Documents, document: dict[str, Any], update: dict[str, Any]
) -> None:
    # The server reads a pull that begins with `$not` as a query on documents, and fails.
    assume(not any("$not" in operand for operand in _pulls(update)))
    assert ours(document, update) == theirs(collection, document, update)


def _pulls(update: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from (each for each in update.get("$pull", {}).values() if is_operators(each))
