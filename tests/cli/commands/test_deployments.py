"""What `modelyard deployments` sends and tells."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import Result

from cli.console import FAILED, USAGE
from tests.support.http.said_yard import Yard

Command = Callable[..., Result]

ID = "3d8a5c1e-64a5-4c6a-9d4f-0d7b6e6f7a02"


def a_deployment(**values: Any) -> dict[str, Any]:
    known = {
        "uuid": ID,
        "name": "clf",
        "status": "DEPLOYED",
        "reason": None,
        "ready": 2,
        "replicas": 2,
        "min_replicas": 2,
        "max_replicas": 4,
        "template": {"generation": 1},
        "created_at": "2026-01-01T00:00:00Z",
    }
    return known | values


def test_create_sends_template_and_bounds_and_shows_what_became_of_it(
    yard: Yard, command: Command
) -> None:
    yard.says("POST /deployments", a_deployment())
    done = command("deployments", "create", "clf", "model", "--min=2", "--gpus=1", "--env=A=1")
    assert done.exit_code == 0, done.stderr
    assert "2/2" in done.stdout
    sent = json.loads(yard.requests[-1].content)
    assert (sent["name"], sent["min_replicas"], sent["max_replicas"]) == ("clf", 2, 2)
    assert sent["template"]["image"] == "model"
    assert (sent["template"]["gpus"], sent["template"]["env"]) == (1, {"A": "1"})


def test_a_deployment_that_failed_is_an_error(yard: Yard, command: Command) -> None:
    yard.says("POST /deployments", a_deployment(status="FAILED", reason="0 of 2 replicas ready"))
    done = command("deployments", "create", "clf", "model")
    assert done.exit_code == FAILED
    assert "0 of 2" in done.stdout


def test_an_edit_without_a_change_is_refused_here(yard: Yard, command: Command) -> None:
    done = command("deployments", "edit", "clf")
    assert (done.exit_code, yard.asked) == (USAGE, [])
    assert "Nothing to change" in done.stderr


@pytest.mark.parametrize("more", ["--gpus=0", "--read-only", "--health-port=80", "--env=A=1"])
def test_options_of_a_container_without_its_image_are_not_dropped(
    yard: Yard, command: Command, more: str
) -> None:
    done = command("deployments", "edit", "clf", "--max=6", more)
    assert (done.exit_code, yard.asked) == (USAGE, [])
    assert "--image is missing" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "call", "body"),
    [
        (("scale", ID, "3"), f"POST /deployments/{ID}/scale", {"replicas": 3}),
        (("rollback", ID, "--to=2"), f"POST /deployments/{ID}/rollback", {"generation": 2}),
        (("edit", ID, "--max=6"), f"PATCH /deployments/{ID}", {"max_replicas": 6}),
        (("edit", ID, "--max-calls=3"), f"PATCH /deployments/{ID}", {"max_calls": 3}),
        (("edit", ID, "--drain=0"), f"PATCH /deployments/{ID}", {"drain_s": 0}),
        (("stop", ID), f"POST /deployments/{ID}/stop", None),
        (("restart", ID), f"POST /deployments/{ID}/restart", None),
        (("delete", ID), f"DELETE /deployments/{ID}", None),
    ],
)
def test_each_verb_is_one_call(
    yard: Yard, command: Command, arguments: tuple[str, ...], call: str, body: Any
) -> None:
    yard.says(call, a_deployment())
    done = command("deployments", *arguments)
    assert done.exit_code == 0, done.stderr
    content = yard.requests[-1].content
    assert (json.loads(content) if content else None) == body


# Autoscaling

POLICY = {
    "targets": [{"metric": "concurrency", "value": 4, "percentile": None}],
    "schedules": [],
    "scale_down": {"stabilization_s": 300, "select": "max", "steps": []},
}
LOOK = {
    "replicas": 3,
    "why": "concurrency is 6, its target 4",
    "figures": [
        {"metric": "concurrency", "percentile": None, "target": 4, "value": 6, "replicas": 3},
        {"metric": "latency", "percentile": 95, "target": 200, "value": None, "replicas": None},
    ],
}


def test_options_become_a_rule(yard: Yard, command: Command) -> None:
    yard.says(f"GET /deployments/{ID}", a_deployment(autoscale=None, scaling=None))
    yard.says(f"PATCH /deployments/{ID}", a_deployment(autoscale=POLICY, scaling=None))
    yard.says(f"GET /deployments/{ID}/scaling", LOOK)
    done = command(
        *("deployments", "autoscale", ID, "--target=latency.p95=200", "--target=cpu=70"),
        "--schedule=Europe/Berlin; 0 8 * * 1-5; 0 18 * * 1-5; 3",
        *("--up-step=50%/60", "--up-step=4/15", "--down-wait=60", "--cooldown=30", "--max=8"),
    )
    assert done.exit_code == 0, done.stderr
    assert json.loads(yard.requests[-2].content) == {
        "max_replicas": 8,
        "autoscale": {
            "targets": [
                {"metric": "latency", "value": 200, "percentile": 95},
                {"metric": "cpu", "value": 70},
            ],
            "schedules": [
                {
                    "timezone": "Europe/Berlin",
                    "start": "0 8 * * 1-5",
                    "end": "0 18 * * 1-5",
                    "replicas": 3,
                }
            ],
            "cooldown_s": 30,
            "scale_up": {
                "steps": [
                    {"kind": "percent", "value": 50, "period_s": 60},
                    {"kind": "replicas", "value": 4, "period_s": 15},
                ]
            },
            "scale_down": {"stabilization_s": 60},
        },
    }


def test_what_is_not_said_of_a_rule_stays_and_off_ends_it(yard: Yard, command: Command) -> None:
    yard.says(f"GET /deployments/{ID}", a_deployment(autoscale=POLICY, scaling=None))
    yard.says(f"GET /deployments/{ID}/scaling", LOOK)
    yard.says(f"PATCH /deployments/{ID}", a_deployment(autoscale=None, scaling=None))
    command("deployments", "autoscale", ID, "--down-wait=0")
    kept = POLICY | {"scale_down": {"stabilization_s": 0, "select": "max", "steps": []}}
    assert json.loads(yard.requests[-1].content) == {"autoscale": kept}
    done = command("deployments", "autoscale", ID, "--off")
    assert json.loads(yard.requests[-1].content) == {"autoscale": {}}
    assert "scaled by hand" in done.stderr


def test_rule_figures_and_last_change_are_told_in_sentences(yard: Yard, command: Command) -> None:
    last = {"replicas": 2, "at": "2026-01-01T00:00:00Z", "why": "cpu is 90, its target 50"}
    yard.says(f"GET /deployments/{ID}", a_deployment(autoscale=POLICY, scaling=last))
    yard.says(f"GET /deployments/{ID}/scaling", LOOK)
    done = command("deployments", "autoscale", ID)
    assert done.stdout.splitlines() == [
        "2 replicas, 2 ready, from 2 to 4",
        "concurrency is 6, its target 4: wants 3",
        "latency p95 is unknown, its target 200",
        "now: 3 wanted, concurrency is 6, its target 4",
        "last change: to 2 at 2026-01-01T00:00:00Z, cpu is 90, its target 50",
    ]


@pytest.mark.parametrize(
    "wrong", ["--target=concurrency", "--target=latency.pxx=1", "--schedule=UTC;a", "--up-step=4"]
)
def test_what_has_no_form_is_refused_with_an_example(
    yard: Yard, command: Command, wrong: str
) -> None:
    yard.says(f"GET /deployments/{ID}", a_deployment(autoscale=None, scaling=None))
    done = command("deployments", "autoscale", ID, wrong)
    assert done.exit_code == USAGE
    assert "write it like" in done.stderr
