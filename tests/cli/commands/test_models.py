"""What `models` says of tests and answers, against a server that says what a test likes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from typer.testing import Result

from cli.console import FAILED, USAGE
from tests.support.http.said_yard import Yard

Command = Callable[..., Result]
VERSION = "/api/models/m/versions/1.0.0"
DONE = {"step": 2, "stepName": "Checking status endpoint", "percentage": 100, "status": "loaded"}


def refused(code: str) -> dict[str, object]:
    said = {"statusCode": 422, "status": "Unprocessable Entity", "code": code}
    return said | {"message": "It answers 404.", "technicalInformation": "GET /status: 404"}


@pytest.fixture(autouse=True)
def models(yard: Yard) -> None:
    yard.says("GET /api/models", [{"identifier": "m"}])


def test_a_load_test_is_waited_for_and_shown(yard: Yard, command: Command) -> None:
    yard.says(f"POST {VERSION}/load-process", DONE)
    yard.says(f"GET {VERSION}/load-process", DONE)
    done = command("models", "load", "classifier", "1.0.0")
    assert done.exit_code == 0
    assert '"status": "loaded"' in done.stdout
    assert "Checking status endpoint 100 %" in done.stderr


def test_what_a_model_did_wrong_is_no_wrong_argument(yard: Yard, command: Command) -> None:
    yard.says(f"GET {VERSION}/load-process", DONE)
    yard.says(f"POST {VERSION}/load-process", refused("status_refused"), 422)
    done = command("models", "load", "classifier", "1.0.0")
    assert done.exit_code == FAILED
    assert "It answers 404.\n  GET /status: 404\n" in done.stderr
    yard.says(f"POST {VERSION}/load-process", refused("invalid_input"), 422)
    assert command("models", "load", "classifier", "1.0.0").exit_code == USAGE


def test_a_trial_run_that_failed_fails(yard: Yard, command: Command) -> None:
    over = {"percentage": 100, "stepName": "Completed", "result": {"status": "FAILED"}}
    yard.says(f"GET {VERSION}/run-process", over)
    assert command("models", "test", "classifier", "1.0.0").exit_code == FAILED


def test_a_name_that_several_models_have_is_not_guessed_at(yard: Yard, command: Command) -> None:
    yard.says("GET /api/models", [{"identifier": "a"}, {"identifier": "b"}])
    done = command("models", "show", "classifier")
    assert done.exit_code == USAGE
    assert "give an ID, a, b." in done.stderr
