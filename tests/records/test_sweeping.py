"""What every sweep over records does."""

from __future__ import annotations

import logging

import pytest

from pipeline.errors import Conflict
from pipeline.records.sweeping import one_by_one
from schemas.node import Node
from tests.support.records import node


async def test_one_record_that_fails_in_whatever_way_holds_up_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    looked: list[str] = []
    errors = {"a": Conflict("busy"), "b": KeyError("x"), "c": AssertionError()}

    async def look(each: Node) -> None:
        looked.append(each.name)
        if each.name in errors:
            raise errors[each.name]

    nodes = [node(name) for name in "abcd"]
    await one_by_one(nodes, look)
    assert looked == ["a", "b", "c", "d"]
    said = [(each.levelno, each.getMessage()) for each in caplog.records]
    assert said == [
        (logging.WARNING, f"node {nodes[0].uuid} is looked at again later: busy"),
        (logging.ERROR, f"node {nodes[1].uuid} is looked at again later"),
        (logging.ERROR, f"node {nodes[2].uuid} is looked at again later"),
    ]
