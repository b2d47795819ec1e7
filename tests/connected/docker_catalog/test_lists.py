"""Filter specifications through HTTP: what each operator matches, and in which order."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.registries.catalog_door import CatalogDoor

Spec = dict[str, Any]


def exact(field: str, value: Any, **more: Any) -> Spec:
    return {"type": "exact", "field": field, "value": value, **more}


def contains(field: str, text: str, **more: Any) -> Spec:
    return {"type": "contains", "field": field, "sub_string": text, **more}


def isnull(field: str, **more: Any) -> Spec:
    return {"type": "isnull", "field": field, **more}


def compare(field: str, by: str, value: Any, **more: Any) -> Spec:
    return {"type": "compare", "field": field, "operator": by, "value": value, **more}


def both(*parts: Spec, **more: Any) -> Spec:
    return {"type": "and", "sub_expressions": list(parts), **more}


def either(*parts: Spec, **more: Any) -> Spec:
    return {"type": "or", "sub_expressions": list(parts), **more}


TRAIN, PREDICT = exact("tasks.name", "Train"), exact("tasks__name", "Predict")
MATCHES: list[tuple[list[Spec], str]] = [
    ([], "abcd"),
    ([exact("name", "a")], "a"),
    ([exact("name", "A")], ""),
    ([exact("name", "A", case_insensitive=True)], "a"),
    ([exact("name", "a", invert=True)], "bcd"),
    ([exact("version", 7)], "b"),
    ([exact("registry_username", "ci")], "a"),
    ([exact("registry_username", "ci", invert=True)], "bcd"),
    ([isnull("registry_username")], "bcd"),
    ([isnull("registry_username", invert=True)], "a"),
    ([contains("url", ":5000/")], "abcd"),
    ([contains("url", ".*")], ""),
    ([contains("registry_username", "C", case_insensitive=True)], "a"),
    ([contains("version", "^")], ""),
    ([exact("cpu", True)], "d"),
    ([exact("cpu", True, invert=True)], "abc"),
    ([compare("name", ">", "b")], "cd"),
    ([compare("name", "<=", "b", invert=True)], "cd"),
    ([exact("cuda_version.version", 12.1)], "b"),
    ([exact("cuda_version__version", "12.10")], "b"),
    ([exact("cuda_version.version", "11.80")], "acd"),
    ([compare("cuda_version.version", ">=", 12)], "b"),
    ([contains("cuda_version.full_version", "1.8")], "acd"),
    ([exact("cuda_version", 3)], "acd"),
    ([exact("framework.name", "yolo")], "c"),
    ([exact("framework.pk", "1", invert=True)], "c"),
    ([exact("domain.description", "SPEECH", case_insensitive=True)], "b"),
    ([compare("min_hardware_generation.min_compute_capability", "<", 8)], "ac"),
    ([compare("min_hardware_generation.min_compute_capability", "<", 8, invert=True)], "bd"),
    ([isnull("min_hardware_generation")], "d"),
    ([isnull("min_hardware_generation.generation")], "d"),
    ([exact("licence.permissions.name", "Patent use")], "b"),
    ([exact("licence.permissions.name", "Patent use", invert=True)], "acd"),
    ([isnull("licence.limitations.name")], "d"),
    ([exact("licence.name", "MIT"), exact("name", "a")], "a"),
    ([TRAIN], "ab"),
    ([TRAIN, PREDICT], "a"),
    ([both(TRAIN, PREDICT)], ""),
    ([both(TRAIN, PREDICT | {"invert": True})], "ab"),
    ([TRAIN | {"invert": True}], "cd"),
    ([isnull("tasks")], "d"),
    ([isnull("tasks.name", invert=True)], "abc"),
    ([exact("tasks", 1)], "ac"),
    ([either(TRAIN, exact("name", "d"))], "abd"),
    ([either(both(TRAIN, exact("name", "b")), exact("name", "c"))], "bc"),
    ([either(TRAIN, exact("name", "d"), invert=True)], "c"),
    ([both(exact("name", "a"), TRAIN, invert=True)], "bcd"),
    ([exact("pk", 2**70)], ""),
    ([exact("id", 2**70, invert=True)], "abcd"),
    ([compare("pk", "<", 10**400)], "abcd"),
    ([contains("pk", "x")], ""),
]


@pytest.fixture
async def filled(door: CatalogDoor) -> CatalogDoor:
    await door.create(name="a", registry_username="ci")
    await door.create(
        name="b",
        version="7",
        cuda_version="12.1",
        domain="sp",
        tasks=["Train"],
        min_hardware_generation="Ampere",
        licence="GPL3",
    )
    await door.create(name="c", framework=11, tasks=["Predict"])
    await door.create(
        name="d", cpu=True, min_hardware_generation=None, tasks=[], licence="Proprietary"
    )
    return door


async def test_each_expression_matches_what_it_says(filled: CatalogDoor) -> None:
    for expressions, names in MATCHES:
        assert "".join(await filled.found(*expressions)) == names, expressions
    for body in (None, {}, [], {"include_inactive": True}):
        answer = await filled.call("POST", "/docker/list", json=body)
        assert [each["name"] for each in answer.json()] == list("abcd")


ORDERS: list[tuple[list[Spec], str]] = [
    ([{"field": "name", "ascending": False}], "dcba"),
    ([{"field": "id", "ascending": False}], "dcba"),
    ([{"field": "framework.name"}], "abdc"),
    ([{"field": "framework.name", "ascending": False}], "cabd"),
    ([{"field": "cuda_version.version", "ascending": False}], "bacd"),
    ([{"field": "min_hardware_generation.min_compute_capability"}], "dacb"),
    ([{"field": "min_hardware_generation.generation", "nulls_first": False}], "bacd"),
    ([{"field": "registry_username", "ascending": False}], "abcd"),
    ([{"field": "registry_username", "nulls_first": True, "ascending": False}], "bcda"),
    ([{"field": "tasks.name"}, {"field": "name", "ascending": False}], "dcab"),
    ([{"field": "tasks.name", "ascending": False}, {"field": "licence.permissions.name"}], "abcd"),
    ([{"field": "cpu"}, {"field": "licence"}], "bacd"),
]


async def test_the_order_is_the_one_asked_for_then_that_of_the_keys(filled: CatalogDoor) -> None:
    for order, names in ORDERS:
        assert "".join(await filled.found(order_by=order)) == names, order


async def test_pages_tell_how_many_match_in_all(filled: CatalogDoor) -> None:
    body = {"expressions": [exact("cpu", False)]}
    for query, names, total in (
        ("?limit=2", "ab", "3"),
        ("?offset=2", "c", "3"),
        ("?offset=9", "", "3"),
        ("?limit=0", "", "3"),
        ("?limit=1&offset=1", "b", "3"),
    ):
        answer = await filled.call("POST", f"/docker/list/{query}", json=body)
        assert "".join(each["name"] for each in answer.json()) == names
        assert answer.headers["x-total-count"] == total
    for query in ("?limit=-1", "?offset=x", "?limit=1.5", "?limit="):
        status, told = await filled.refusal("POST", f"/docker/list{query}")
        assert (status, list(told)) == (400, ["detail"]), query


REFUSED: list[Any] = [
    7,
    "x",
    ["x"],
    {"more": 1},
    {"expressions": {}},
    {"expressions": None},
    {"order_by": ["name"]},
    {"include_inactive": None},
    *(
        {"expressions": [each]}
        for each in (
            {},
            {"type": "regex", "field": "name", "value": "a"},
            exact("name", None),
            exact("name", []),
            exact("", "a"),
            exact("name", "a", more=1),
            exact("name", True),
            exact("name", "a", invert=1),
            exact("cpu", "true"),
            exact("pk", "abc"),
            exact("pk", True),
            exact("tasks.pk", "x"),
            exact("registry_password", "a"),
            exact("sealed_password", "a"),
            exact("org", "a"),
            exact("name.x", "a"),
            exact("tasks.values.name", "a"),
            exact("licence.permissions", "a"),
            exact("name__iexact", "a"),
            exact("$where", "a"),
            exact("name", "a\0b"),
            contains("name", ""),
            contains("cpu", "t"),
            compare("name", "!=", "a"),
            compare("cpu", "<", 1),
            compare("name", "<", True),
            both(exact("name", "a")),
            both(exact("name", "a"), both(exact("name", "a"), exact("name", "b"))),
            either(exact("name", "a"), either(exact("name", "a"), exact("name", "b"))),
            {"type": "isnull"},
        )
    ),
    {"order_by": [{"field": "registry_password"}]},
    {"order_by": [{"field": "name", "ascending": None}]},
    {"order_by": [{"ascending": True}]},
]


async def test_what_is_no_specification_is_refused(door: CatalogDoor) -> None:
    for body in REFUSED:
        status, told = await door.refusal("POST", "/docker/list", json=body)
        assert (status, list(told)) == (400, ["detail"]), body


async def test_tables_know_the_same_filters(door: CatalogDoor) -> None:
    for table, expressions, keys in (
        ("cuda", [compare("version", ">", 12.8)], [28, 29]),
        ("cuda", [contains("version", "1.1")], [10]),
        ("hardware", [exact("max_compute_capability", "8")], [6]),
        ("licences", [exact("conditions.name", "Same license (file)")], [12]),
        ("licenses", [isnull("permissions.name")], [14]),
        ("job-types", [either(exact("name", "str"), exact("pk", 8))], [7, 8]),
    ):
        assert await door.found(*expressions, table=table) == keys, (table, expressions)
    order = [{"field": "version", "ascending": False}]
    assert (await door.found(table="cuda", order_by=order))[:2] == [29, 28]
