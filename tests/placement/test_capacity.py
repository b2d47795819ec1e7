"""The index says what looking at every node would say."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.placement.capacity import FEW, Capacity
from pipeline.placement.eligibility import ResourceRequest, is_free, refusals, schedulable
from pipeline.placement.planning import pick
from schemas.node import Lease, Node
from schemas.states import NodeStatus
from tests.placement.test_planning import machines, requests
from tests.support.records import AT, GIB, gpu, inventory, node

GRACE_S = 20


def best_of_all(request: ResourceRequest, nodes: list[Node]) -> tuple[str, tuple[str, ...]] | None:
    def score(node: Node) -> tuple[bool, int, int, float, str]:
        return (
            request.digest not in node.images,
            sum(is_free(each, node) for each in schedulable(node)),
            node.inventory.memory_bytes - node.leased_memory_bytes,
            node.inventory.cpus - node.leased_cpus,
            node.name,
        )

    fitting = [node for node in nodes if not refusals(request, node, now=AT, grace_s=GRACE_S)]
    if not fitting:
        return None
    best = min(fitting, key=score)
    return best.uuid, pick(request, best)


def chosen(capacity: Capacity, request: ResourceRequest) -> tuple[str, tuple[str, ...]] | None:
    choice = capacity.choose(request, now=AT, grace_s=GRACE_S)
    return None if choice is None else (choice.node.uuid, choice.gpus)


names = st.sampled_from(["n0", "n1", "n2", "n3", "n4"])


@settings(deadline=None)
@given(
    st.lists(st.one_of(names.flatmap(machines), names), max_size=16), st.lists(requests, max_size=6)
)
def test_what_is_followed_step_by_step_is_what_looking_at_all_nodes_finds(
    steps: list[Node | str], asked: list[ResourceRequest]
) -> None:
    capacity, nodes = Capacity(), dict[str, Node]()
    for step in steps:
        if isinstance(step, Node):
            capacity.put(step)
            nodes[step.uuid] = step
        else:
            capacity.drop(step)
            nodes.pop(step, None)
    for number, request in enumerate(asked):
        found = chosen(capacity, request)
        assert found == best_of_all(request, list(nodes.values()))
        if found is not None:
            uuid, gpus = found
            lease = Lease(
                container=f"c{number}", fence=1, gpus=list(gpus), org="acme",
                memory_bytes=request.memory_bytes, cpus=request.cpus,
            )  # fmt: skip
            capacity.lease(uuid, lease)
            after = capacity.get(uuid)
            assert after is not None
            nodes[uuid] = after.model_copy(update={"images": nodes[uuid].images})
    assert capacity.share("acme") == sum(
        len(lease.gpus) for each in nodes.values() for lease in each.leases.values()
    )


def test_of_many_nodes_with_the_image_the_fullest_is_found() -> None:
    every = [
        node(f"n{number:03}", gpu(f"g{number}"), images=["sha256:1"] if number % 2 else [])
        for number in range(3 * FEW)
    ]
    fuller = node("z", gpu("a"), gpu("b"), held={"a": "x"}, images=["sha256:1"],
                  leased_memory_bytes=GIB)  # fmt: skip
    capacity = Capacity([*every, fuller])
    found = chosen(capacity, ResourceRequest(gpus=1, digest="sha256:1"))
    assert found == (fuller.uuid, ("b",))
    capacity.drop(fuller.uuid)
    assert chosen(capacity, ResourceRequest(gpus=1, digest="sha256:1")) == (every[1].uuid, ("g1",))


def test_what_is_given_back_can_be_given_again() -> None:
    one = node("one", gpu("g"))
    capacity = Capacity([one])
    capacity.lease(one.uuid, Lease(container="c", fence=1, gpus=["g"], org="acme"))
    assert [each.uuid for each in capacity.holders("c")] == [one.uuid]
    assert chosen(capacity, ResourceRequest(gpus=1)) is None
    capacity.put(one)
    assert (capacity.holders("c"), capacity.share("acme")) == ([], 0)
    assert chosen(capacity, ResourceRequest(gpus=1)) == (one.uuid, ("g",))


def test_workers_with_a_salt_of_their_own_begin_at_different_nodes() -> None:
    alike = [node(f"n{number}", gpu(f"g{number}")) for number in range(20)]
    first = {chosen(Capacity(alike, salt=salt), ResourceRequest(gpus=1)) for salt in "abcdefgh"}
    assert len(first) > 1


def test_the_nearest_is_the_one_that_lacks_least_and_could_have_enough() -> None:
    small = node("small", gpu("s0"), gpu("s1"))
    full = node("full", *(gpu(f"f{n}", index=n) for n in range(4)),
                held={"f0": "x", "f1": "x", "f2": "x"})  # fmt: skip
    half = node("half", *(gpu(f"h{n}", index=n) for n in range(4)), held={"h0": "x", "h1": "x"})
    away = node("away", *(gpu(f"a{n}", index=n) for n in range(4)), status=NodeStatus.LOST)
    bare = node("bare", inventory=inventory())
    capacity = Capacity([small, full, half, away, bare])

    def nearest(*closed: Node) -> str | None:
        shut = [each.uuid for each in closed]
        found = capacity.nearest(ResourceRequest(gpus=4), now=AT, grace_s=GRACE_S, closed=shut)
        return found and found.name

    assert (nearest(), nearest(half), nearest(half, full)) == ("half", "full", None)
