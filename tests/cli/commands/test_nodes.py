"""What `modelyard nodes` sends and tells."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from typer.testing import Result

from schemas.node import Drain
from tests.support import records as made
from tests.support.http.said_yard import Yard

Command = Callable[..., Result]

ID = "3d8a5c1e-64a5-4c6a-9d4f-0d7b6e6f7a01"


@pytest.mark.parametrize(
    ("verb", "asked"),
    [
        ("cordon", f"POST /nodes/{ID}/cordon"),
        ("uncordon", f"POST /nodes/{ID}/uncordon"),
        ("drain", f"POST /nodes/{ID}/drain"),
        ("resume", f"POST /nodes/{ID}/resume"),
        ("delete", f"DELETE /nodes/{ID}"),
    ],
)
def test_a_node_is_changed_by_its_name(yard: Yard, command: Command, verb: str, asked: str) -> None:
    node = made.node("gpu-1", uuid=ID).model_dump(mode="json")
    yard.says("GET /nodes/find", node)
    yard.says(asked, node)
    done = command("nodes", verb, "gpu-1")
    assert (done.exit_code, yard.asked[-1]) == (0, asked)
    assert done.stderr


def test_a_cordoned_node_shows_it(yard: Yard, command: Command) -> None:
    node = made.node("gpu-1", uuid=ID, cordoned=True).model_dump(mode="json")
    yard.says("GET /nodes", {"items": [node], "next": None})
    assert "READY (cordoned)" in command("nodes", "list").stdout


def test_a_drained_node_says_what_is_left(yard: Yard, command: Command) -> None:
    drain = Drain(since=made.AT, said="1 replica to move")
    node = made.node("gpu-1", uuid=ID, cordoned=True, drain=drain).model_dump(mode="json")
    yard.says("GET /nodes", {"items": [node], "next": None})
    assert "READY (draining: 1 replica to move)" in command("nodes", "list").stdout
