"""What counts as a difference between a document and a record, and what is shown of it."""

from __future__ import annotations

from typing import Any

import pytest

from cli.manifests.changes import bare, differences


@pytest.mark.parametrize(
    ("wanted", "there", "fields"),
    [
        ({}, {"a": 1}, []),
        ({"a": 1}, {"a": 1, "b": 2}, []),
        ({"a": 2}, {"a": 1}, ["a"]),
        ({"a": {"b": 2}}, {"a": {"b": 1, "c": 3}}, ["a.b"]),
        ({"ports": [{"internal": 80}]}, {"ports": [{"internal": 80, "protocol": "tcp"}]}, []),
        ({"ports": [{"internal": 81}]}, {"ports": [{"internal": 80}]}, ["ports[0].internal"]),
        ({"tags": ["a"]}, {"tags": ["a", "b"]}, ["tags"]),
        ({"labels": {"a": "1"}}, {"labels": {"a": "1", "b": "2"}}, ["labels.b"]),
        ({"labels": {}}, {"labels": {"b": "2"}}, ["labels.b"]),
        ({"secret": None}, {"secret": ""}, []),
        ({"secret": "s"}, {"secret": None}, ["secret"]),
    ],
)
def test_only_what_is_named_counts_but_the_keys_of_callers_own_objects(
    wanted: Any, there: Any, fields: list[str]
) -> None:
    assert [each.field for each in differences(wanted, there)] == fields


def test_values_that_may_be_secret_are_not_shown() -> None:
    wanted = {"template": {"env": {"KEY": "hidden"}, "image": "b"}}
    there = {"template": {"env": {"KEY": "other"}, "image": "a"}}
    assert list(map(str, differences(wanted, there))) == [
        "template.env.KEY: changed",
        "template.image: 'a' → 'b'",
    ]


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"labels": {}, "env": {"A": ""}, "image": None, "tags": []},
        {"template": {"env": {}, "ports": [{"host": None, "internal": 1}], "gpus": 0}},
        {"a": {"b": {"c": [None, {"d": ""}]}}, "ready": False},
    ],
)
def test_a_record_without_what_need_not_be_said_is_no_difference(record: dict[str, Any]) -> None:
    assert list(differences(record, record)) == []
    assert list(differences(bare(record), record)) == []
