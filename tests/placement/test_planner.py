"""Who gets what when there is not enough for all: nobody waits for ever."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.placement.batches import Pending
from pipeline.placement.capacity import Capacity
from pipeline.placement.eligibility import ResourceRequest
from pipeline.placement.planner import Planner
from schemas.container import ContainerSpec
from tests.support.records import AT, after, container, gpu, node

PATIENCE_S = 10


def pending(gpus: int, *, org: str = "a", at: datetime = AT, priority: int = 0) -> Pending:
    spec = ContainerSpec(image="m", priority=priority)
    made = container(org=org, at=at, status_since=at, spec=spec)
    return Pending(made, [], wants=ResourceRequest(gpus=gpus))


def cluster(nodes: int = 1, gpus: int = 4) -> Capacity:
    return Capacity(
        node(f"n{n}", *(gpu(f"{n}-{g}", index=g) for g in range(gpus)), last_heartbeat=after(10**6))
        for n in range(nodes)
    )


def planner(capacity: Capacity) -> Planner:
    return Planner(capacity, grace_s=10**7, patience_s=PATIENCE_S)


def test_what_is_scarce_goes_to_the_higher_priority() -> None:
    low, high = pending(4), pending(4, at=after(1), priority=5)
    planner(cluster()).plan([low, high], "attempt", now=after(1))
    assert (high.lease is not None, low.lease) == (True, None)


def test_what_is_scarce_is_shared_between_organisations() -> None:
    many = [pending(1, at=after(n / 10)) for n in range(8)]
    few = [pending(1, org="b", at=after(5 + n)) for n in range(2)]
    planner(cluster()).plan([*many, *few], "attempt", now=after(8))
    assert all(each.lease for each in few)
    assert [each.lease is not None for each in many] == [True] * 2 + [False] * 6


def test_small_ones_pass_a_big_one_until_its_patience_is_at_an_end() -> None:
    capacity = cluster(nodes=2)
    plan = planner(capacity)
    for _ in range(2):
        plan.plan([pending(3)], "attempt", now=AT)
    big = pending(4, at=AT)
    first, second = pending(1, at=after(5)), pending(1, at=after(11))
    plan.plan([big, first], "attempt", now=after(5))
    assert first.lease is not None
    big.refusal = None
    plan.plan([big, second], "attempt", now=after(11))
    assert second.lease is None, "the node that has most is kept for the big one"
    urgent = pending(1, at=after(12), priority=1)
    plan.plan([urgent, big], "attempt", now=after(12))
    assert urgent.lease is not None, "a higher priority does not wait for a lower one"


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(st.integers(1, 2), st.integers(1, 6)), min_size=20, max_size=40),
    st.integers(1, 3),
    st.sampled_from("ab"),
)
def test_a_big_one_gets_its_node_however_many_small_ones_come(
    small: list[tuple[int, int]], nodes: int, org: str
) -> None:
    """Each step some come, all that wait are planned, and some end; GPUs and life of each small
    one are drawn. From when its patience is at an end, the big one waits no longer than those that
    run already."""
    capacity, big = cluster(nodes), pending(4, org=org, at=AT)
    plan, waiting = planner(capacity), list[Pending]()
    running: list[tuple[int, Pending]] = []
    started = 0
    for step in range(60):
        if step >= 2 and big not in waiting and big.lease is None:
            waiting.append(big)
        for number in range(4 * nodes):
            gpus, _ = small[(step * 7 + number) % len(small)]
            waiting.append(pending(gpus, at=after(step)))
        for each in waiting:
            each.refusal = None
        plan.plan(waiting, "attempt", now=after(step))
        for each in [each for each in waiting if each.lease is not None]:
            waiting.remove(each)
            started += 1
            running.append((step + small[started % len(small)][1], each))
        if big.lease is not None:
            break
        for ends, each in [entry for entry in running if entry[0] <= step]:
            running.remove((ends, each))
            assert each.choice is not None
            capacity.release(each.choice.node.uuid, each.container.uuid)
    assert big.lease is not None
    assert AT + timedelta(seconds=PATIENCE_S + 3 * 6) >= after(step)
