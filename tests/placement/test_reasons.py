"""Why no node takes a container, where there are many nodes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import CannotPlace, NoCapacity
from pipeline.placement import reasons
from pipeline.placement.capacity import Capacity
from pipeline.placement.eligibility import ResourceRequest, refusals
from pipeline.placement.reasons import EXAMPLES, is_same, plan, told
from schemas.node import Node
from schemas.states import NodeStatus
from tests.placement.test_planning import machines, requests
from tests.support.records import AT, gpu, node


def busy(number: int) -> Node:
    return node(f"n{number:03}", gpu(f"g{number}"), held={f"g{number}": "x"})


def test_reasons_of_many_nodes_are_counted_by_kind_with_a_few_examples() -> None:
    lost = [node(f"l{number}", gpu(f"l{number}"), status=NodeStatus.LOST) for number in range(5)]
    bare = node("bare")
    with pytest.raises(NoCapacity) as waiting:
        plan(ResourceRequest(gpus=1), [*map(busy, range(100)), *lost, bare], AT)
    said = told(waiting.value.facts)
    assert list(said) == [
        "100 of 106 nodes (no_free_gpu)",
        "1 of 106 nodes (no_gpu)",
        "5 of 106 nodes (offline)",
    ]
    assert said["1 of 106 nodes (no_gpu)"] == ["bare: 1 GPUs needed, the node has 0"]
    free = said["100 of 106 nodes (no_free_gpu)"]
    assert free[0] == "n000: 1 GPUs needed, 0 free (1 in use, 0 out of order)"
    assert len(free) == EXAMPLES


def test_what_no_node_of_many_can_ever_run_is_not_waited_for() -> None:
    with pytest.raises(CannotPlace) as never:
        plan(ResourceRequest(gpus=2), map(busy, range(30)), AT)
    assert type(never.value) is CannotPlace
    assert list(told(never.value.facts)) == ["30 of 30 nodes (no_gpu)"]


def test_another_count_is_nothing_new_and_another_kind_is() -> None:
    before = {"12 of 30 nodes (no_free_gpu)": ["a"]}
    assert is_same(before, {"11 of 30 nodes (no_free_gpu)": ["b"]})
    assert not is_same(before, {"12 of 30 nodes (offline)": ["a"]})
    assert is_same({"one": ["a"]}, {"one": ["a"]})
    assert not is_same({"one": ["a"]}, {"one": ["b"]})


def test_a_node_that_was_not_offered_and_refuses_nothing_costs_no_other_its_place() -> None:
    groups = Capacity([node(f"n{number:02}", gpu(f"g{number}")) for number in range(30)]).groups()
    error = reasons.refusal(ResourceRequest(gpus=1), groups, now=AT, grace_s=20)
    assert type(error) is NoCapacity
    assert error.facts["kinds"] == {"unknown": 30}


@settings(deadline=None, max_examples=30)
@given(requests, st.tuples(*(machines(f"n{number}") for number in range(3))))
def test_the_sum_is_what_each_node_says(
    request: ResourceRequest, cluster: tuple[Node, ...]
) -> None:
    fitting = [each for each in cluster if not refusals(request, each, now=AT, grace_s=20)]
    every = [each for each in cluster if each not in fitting]
    with pytest.MonkeyPatch.context() as patch:
        one_by_one = reasons.refusal(request, Capacity(every).groups(), now=AT, grace_s=20)
        patch.setattr(reasons, "FEW", 0)
        summed = reasons.refusal(request, Capacity(every).groups(), now=AT, grace_s=20)
    assert type(summed) is type(one_by_one)
    nodes = one_by_one.facts["nodes"]
    counted = [code for each in nodes.values() for code in (reason["code"] for reason in each)]
    kinds = summed.facts.get("kinds", {})
    assert kinds == {code: counted.count(code) for code in set(counted)}
