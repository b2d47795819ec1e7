"""What a model gave, by name, and how it is shown."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.errors import InvalidInput
from pipeline.models.runtime import outputs
from schemas.model import ModelOutput

SHOWN: list[tuple[bytes, Any]] = [
    (b'{"a": [1, null]}', {"a": [1, None]}),
    (b"7", 7),
    ("ä".encode(), "ä"),
    (b"{'a'}", "{'a'}"),
    (b"NaN", "NaN"),
    (b"[" * 100_000, "[" * 100_000),
    (b"\xff\xd8", "data:application/octet-stream;base64,/9g="),
    (b"", ""),
    (b'{"a": 1e999}', '{"a": 1e999}'),
    (b'{"a": "\\ud800"}', '{"a": "\\ud800"}'),
    (b'{"\\udfff": 1}', '{"\\udfff": 1}'),
    (b'"\\ud83d\\ude00"', "\N{GRINNING FACE}"),
    (b"[" * 201 + b"]" * 201, "[" * 201 + "]" * 201),
    (b'[[1], {"a": [2, "b"]}]', [[1], {"a": [2, "b"]}]),
]


@pytest.mark.parametrize(("content", "shown"), SHOWN, ids=[repr(row[0][:9]) for row in SHOWN])
def test_json_is_shown_as_json_and_the_rest_as_what_it_is(content: bytes, shown: Any) -> None:
    assert outputs.shown(content) == shown


def test_what_is_shown_as_json_can_be_written_as_json_by_whoever_asks() -> None:
    nested = outputs.shown(b'{"a":' * 199 + b"[]" + b"}" * 199)
    assert json.loads(json.dumps(nested)) == nested != {}


RESULTS = ModelOutput(name="results.json")


def test_a_file_counts_more_than_the_answer() -> None:
    files = {"results.json": b'{"from": "file"}'}
    assert outputs.collect([RESULTS], files, b'{"from": "answer"}') == {
        "results.json": {"from": "file"}
    }


def test_the_answer_stands_in_for_a_file_of_results() -> None:
    assert outputs.collect([RESULTS], {}, b'{"a": 1}') == {"results.json": {"a": 1}}


def test_every_output_that_is_missing_is_named() -> None:
    declared = [RESULTS, ModelOutput(name="a.txt"), ModelOutput(name="b.txt")]
    with pytest.raises(InvalidInput, match=r"did not write a\.txt, b\.txt"):
        outputs.collect(declared, {"results.json": b"{}"}, b"")
    with pytest.raises(InvalidInput, match=r"results\.json"):
        outputs.collect([RESULTS], {}, b"  \n")
