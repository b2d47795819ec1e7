"""What of a payload is shown, and what is hidden in everything that is said about it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline import topology
from pipeline.dead_letters import masking
from schemas.commands import COMMANDS

CREATE = topology.command("acme", "container", "create")
IMAGE = topology.command("acme", "image", "create")
ENTRY = topology.command("acme", "registry", "create")


@pytest.mark.parametrize(
    ("subject", "data", "shown", "hidden"),
    [
        (CREATE, {"env": {"A": "s1", "B": "s2"}}, {"env": {"A": "***", "B": "***"}}, {"s1", "s2"}),
        (CREATE, {"env": ["s1"]}, {"env": ["***"]}, {"s1"}),
        (CREATE, {"env": "s1"}, {"env": "***"}, {"s1"}),
        (CREATE, {"name": "good", "gpus": 2}, {"name": "good", "gpus": 2}, set()),
        (CREATE, {"name": "not good!"}, {"name": "string"}, {"not good!"}),
        (CREATE, {"gpus": "s1"}, {"gpus": "string"}, {"s1"}),
        (CREATE, {"ports": [{"internal": 80}]}, {"ports": [{"internal": 80}]}, set()),
        (CREATE, {"resources": {"cpu": "s1"}}, {"resources": {"cpu": "string"}}, {"s1"}),
        (CREATE, {"restart": "always"}, {"restart": "always"}, set()),
        (CREATE, {"labels": {"team": "x"}}, {"labels": {"team": "x"}}, set()),
        (CREATE, {"labels": {"api_key": "s1"}}, {"labels": {"api_key": "***"}}, {"s1"}),
        (CREATE, {"command": ["--token=s1"]}, {"command": ["--token=[hidden]"]}, set()),
        (
            CREATE,
            {"command": ["serve", "--api-key", "s1", "--port", "80"]},
            {"command": ["serve", "--api-key", "***", "--port", "80"]},
            {"s1"},
        ),
        (CREATE, {"extra": {"pin": 123456}}, {"extra": {"pin": "number"}}, {"123456"}),
        (CREATE, {"extra": [None, True]}, {"extra": ["null", "boolean"]}, set()),
        (CREATE, ["s1"], ["string"], {"s1"}),
        (CREATE, "s1", "string", {"s1"}),
        (IMAGE, {"secret": "s1"}, {"secret": "***"}, {"s1"}),
        (IMAGE, {"reference": "u:s1@host/x:1"}, {"reference": "[hidden]@host/x:1"}, set()),
        (
            IMAGE,
            {"reference": f"host:5000/x:1@sha256:{'a' * 64}"},
            {"reference": f"host:5000/x:1@sha256:{'a' * 64}"},
            set(),
        ),
        (
            ENTRY,
            {"container_registry_id": "r", "container_registry_config": {"u": "s1"}},
            {"container_registry_id": "r", "container_registry_config": {"u": "string"}},
            {"s1"},
        ),
        (ENTRY, {"container_registry_secret": "s1"}, {"container_registry_secret": "***"}, {"s1"}),
        ("yard.ask.acme.container.create", {"name": "good"}, {"name": "good"}, set()),
        ("yard.cmd.acme.no.such", {"name": "good"}, {"name": "string"}, {"good"}),
        ("yard.node.n1.launch", {"container": "c"}, {"container": "c"}, set()),
        ("other", {"a": "s1"}, {"a": "string"}, {"s1"}),
    ],
)  # fmt: skip
def test_values_are_shown_only_where_the_schema_says_what_they_are(
    subject: str, data: Any, shown: Any, hidden: set[str]
) -> None:
    payload = json.dumps(data).encode()
    assert masking.shown(subject, payload) == shown
    assert masking.hidden(subject, payload) == hidden


@pytest.mark.parametrize("payload", [b"", b"no json", b"\xff", b"[" * 100_000])
def test_what_is_not_json_is_not_shown(payload: bytes) -> None:
    assert masking.shown(CREATE, payload) is None
    assert masking.hidden(CREATE, payload) == frozenset()


def test_every_command_has_a_shape() -> None:
    known = {plan.subject.removeprefix("yard.cmd.*.") for plan in topology.STAGES}
    assert set(COMMANDS) == known
