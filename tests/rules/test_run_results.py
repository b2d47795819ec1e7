"""What callers poll of a trial run."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from pipeline.errors import InvalidInput
from pipeline.rules import run_results
from schemas.model import Fault, ModelOutput, Phase, TrialRun
from tests.support.records import AT

STARTED = {"phase": Phase.RUNNING, "started_at": AT, "input_size": 7}


@pytest.mark.parametrize(("step", "percentage"), [(0, 0), (1, 25), (2, 50), (3, 75)])
def test_each_step_is_a_quarter(step: int, percentage: int) -> None:
    shown = run_results.describe(TrialRun(**STARTED, step=step), {})
    assert shown["percentage"] == percentage
    assert (shown["step"], shown["stepName"]) == (step, run_results.STEPS[step])
    assert shown["result"] is None


def test_before_a_run_there_is_no_result() -> None:
    assert run_results.describe(TrialRun(), {})["result"] is None


def test_a_run_that_succeeded_shows_its_outputs_and_times() -> None:
    ended = {"phase": Phase.SUCCEEDED, "ended_at": AT + timedelta(milliseconds=1500)}
    run = TrialRun(**{**STARTED, **ended}, engine="node-a", elapsed_ms=1200)
    shown = run_results.describe(run, {"results.json": {"label": "cat"}})
    assert (shown["step"], shown["percentage"]) == (4, 100)
    result = shown["result"]
    assert result["results.json"] == {"label": "cat"}
    assert (result["status"], result["error"], result["technicalInformation"]) == (
        "SUCCESSFUL",
        None,
        None,
    )
    assert (result["engine"], result["inputSize"], result["elapsedTime"]) == ("node-a", 7, 1200)
    assert result["endTime"].endswith("+00:00")
    assert result["startTime"] < result["endTime"] == result["updateTime"]


def test_a_run_that_failed_says_why_and_is_at_its_end_wherever_it_stopped() -> None:
    fault = Fault(code="run_failed", message="No tensor.", technical="line 7")
    run = TrialRun(phase=Phase.FAILED, step=2, fault=fault, started_at=AT)
    shown = run_results.describe(run, {})
    assert (shown["percentage"], shown["stepName"]) == (100, "Completed")
    result = shown["result"]
    assert (result["status"], result["error"]) == ("FAILED", "No tensor.")
    assert result["technicalInformation"] == "line 7"
    assert result["results.json"] is None
    assert result["endTime"] is None


def test_a_declared_output_that_was_not_given_is_null() -> None:
    run = TrialRun(phase=Phase.FAILED, started_at=AT)
    declared = [ModelOutput(name="labels.json"), ModelOutput(name="notes.txt")]
    result = run_results.describe(run, {"notes.txt": "a"}, declared)["result"]
    names = ("labels.json", "notes.txt", "results.json")
    assert [result[name] for name in names] == [None, "a", None]


def test_an_output_cannot_pass_for_a_part_of_the_result() -> None:
    run = TrialRun(phase=Phase.SUCCEEDED, started_at=AT)
    result = run_results.describe(run, {"status": "FAILED"})["result"]
    assert result["status"] == "SUCCESSFUL"


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
    assert run_results.shown(content) == shown


def test_what_is_shown_as_json_can_be_written_as_json_by_whoever_asks() -> None:
    nested = run_results.shown(b'{"a":' * 199 + b"[]" + b"}" * 199)
    assert json.loads(json.dumps(nested)) == nested != {}


RESULTS = ModelOutput(name="results.json")


def test_a_file_counts_more_than_the_answer() -> None:
    files = {"results.json": b'{"from": "file"}'}
    assert run_results.collect([RESULTS], files, b'{"from": "answer"}') == {
        "results.json": {"from": "file"}
    }


def test_the_answer_stands_in_for_a_file_of_results() -> None:
    assert run_results.collect([RESULTS], {}, b'{"a": 1}') == {"results.json": {"a": 1}}


def test_every_output_that_is_missing_is_named() -> None:
    declared = [RESULTS, ModelOutput(name="a.txt"), ModelOutput(name="b.txt")]
    with pytest.raises(InvalidInput, match=r"did not write a\.txt, b\.txt"):
        run_results.collect(declared, {"results.json": b"{}"}, b"")
    with pytest.raises(InvalidInput, match=r"results\.json"):
        run_results.collect([RESULTS], {}, b"  \n")
