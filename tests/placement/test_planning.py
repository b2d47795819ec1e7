"""Which node takes a container."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import CannotPlace, InvalidInput, NoCapacity
from pipeline.placement import planning
from pipeline.placement.eligibility import ResourceRequest, refusals
from pipeline.placement.planning import Choice
from pipeline.placement.reasons import plan
from schemas.container import ContainerSpec, PortSpec, Resources
from schemas.image import Needs
from schemas.node import Gpu, Lease, Node
from schemas.states import NodeStatus
from tests.support.records import AMD64, AT, GIB, after, gpu, image, inventory, node


def chosen(request: ResourceRequest, *nodes: Node) -> str:
    return plan(request, nodes, AT).node.name


def devices(prefix: str, count: int) -> list[Gpu]:
    return [gpu(f"{prefix}{index}", index=index) for index in range(count)]


# --- what is asked for ------------------------------------------------------------------------


def test_a_request_joins_the_spec_and_the_image() -> None:
    needs = Needs(gpus=2, cuda="12.1", driver="530", compute_capability="8.0", memory_bytes=5)
    model = image(needs=needs, requested_needs=needs, digest="sha256:1", platform=AMD64)
    spec = ContainerSpec(
        image="model",
        gpu_model="a100",
        node="one",
        node_labels={"a": "b"},
        resources=Resources(cpus=1.5),
    )
    assert planning.request(spec, model) == ResourceRequest(
        gpus=2,
        gpu_model="a100",
        compute_capability="8.0",
        driver="530",
        cuda="12.1",
        memory_bytes=5,
        cpus=1.5,
        platform=AMD64,
        node="one",
        node_labels={"a": "b"},
        digest="sha256:1",
    )


def test_the_spec_overrides_the_gpus_and_the_larger_memory_counts() -> None:
    model = image(needs=Needs(gpus=2, memory_bytes=5))
    spec = ContainerSpec(image="model", gpus=0, resources=Resources(memory_bytes=7))
    made = planning.request(spec, model)
    assert (made.gpus, made.memory_bytes) == (0, 7)


def test_a_version_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInput, match="driver"):
        planning.request(ContainerSpec(image="m"), image(needs=Needs(driver="newest")))


# --- what its environment requires ------------------------------------------------------------


def required(variables: dict[str, str] | None, env: dict[str, str], **values: Any) -> list[str]:
    """The conditions that placement asks, as they are written."""
    spec = ContainerSpec(image="m", gpus=1, env=env)
    made = planning.request(spec, image(gpu_variables=variables, **values))
    return [
        " ".join(
            ",".join(f"{one.name}{one.operator}{one.value}" for one in alternative)
            for alternative in requirement.alternatives
        )
        for requirement in made.requirements
    ]


CUDA, OFF = "NVIDIA_REQUIRE_CUDA", "NVIDIA_DISABLE_REQUIRE"


@pytest.mark.parametrize(
    ("variables", "env", "expected"),
    [
        ({CUDA: "cuda>=12.9"}, {}, ["cuda>=12.9"]),
        ({CUDA: "cuda>=12.9"}, {OFF: "true"}, []),
        ({CUDA: "cuda>=12.9", OFF: "1"}, {}, []),
        ({CUDA: "cuda>=12.9", OFF: "1"}, {OFF: "false"}, ["cuda>=12.9"]),
        ({"CUDA_VERSION": "12.9.1"}, {OFF: "1"}, []),
        ({CUDA: "cuda>=12.9"}, {CUDA: "cuda>=12.0"}, ["cuda>=12.0"]),
        ({CUDA: "cuda>=12.9"}, {"NVIDIA_REQUIRE_OWN": "arch>=9.0"}, ["cuda>=12.9", "arch>=9.0"]),
        ({}, {}, []),
    ],
)
def test_the_environment_of_the_launch_overrides_that_of_the_image(
    variables: dict[str, str], env: dict[str, str], expected: list[str]
) -> None:
    assert required(variables, env) == expected


def test_what_the_owner_says_of_a_property_stands_for_what_the_image_says() -> None:
    variables = {
        CUDA: "cuda>=12.9 brand=tesla,driver>=535",
        "NVIDIA_REQUIRE_OWN": "cuda<13,arch>=8",
    }
    spoken = Needs(cuda="12.0")
    assert required(variables, {}, requested_needs=spoken, needs=spoken) == ["arch>=8"]


def test_a_record_of_before_is_held_to_the_versions_that_it_kept() -> None:
    kept = Needs(cuda="12.4", driver="550.54.14", compute_capability="8.0")
    assert required(None, {}, needs=kept) == ["cuda>=12.4,driver>=550.54.14,arch>=8"]
    assert required(None, {OFF: "1"}, needs=kept) == []
    assert required(None, {}, needs=Needs()) == []


# --- the choice -------------------------------------------------------------------------------


def test_a_node_that_has_the_image_wins_over_a_fuller_one() -> None:
    fuller = node("a", *devices("a", 2), held={"a0": "x"})
    has_it = node("b", *devices("b", 2), images=["sha256:1"])
    assert chosen(ResourceRequest(gpus=1, digest="sha256:1"), fuller, has_it) == "b"


def test_the_node_with_the_fewest_gpus_left_wins() -> None:
    empty = node("a", *devices("a", 4))
    fuller = node("b", *devices("b", 4), held={"b0": "x", "b1": "x"})
    small = node("c", *devices("c", 1))
    assert chosen(ResourceRequest(gpus=1), empty, fuller, small) == "c"
    assert chosen(ResourceRequest(gpus=2), empty, fuller, small) == "b"


def test_a_container_without_gpus_keeps_off_the_nodes_that_have_some() -> None:
    assert chosen(ResourceRequest(), node("a", *devices("a", 1)), node("b")) == "b"


def test_between_equal_nodes_the_fuller_memory_and_then_the_name_decides() -> None:
    assert chosen(ResourceRequest(), node("a"), node("b", leased_memory_bytes=GIB)) == "b"
    assert chosen(ResourceRequest(), node("b"), node("a")) == "a"


def test_deleted_nodes_do_not_exist() -> None:
    gone = node("a", status=NodeStatus.DELETED)
    with pytest.raises(NoCapacity) as refused:
        plan(ResourceRequest(), [gone], AT)
    assert refused.value.facts == {"nodes": {}}


def test_gpus_come_from_one_model_where_that_is_possible() -> None:
    mixed = node("a", gpu("l4", model="NVIDIA L4", memory_bytes=24 * GIB), *devices("a", 2))
    assert plan(ResourceRequest(gpus=2), [mixed], AT).gpus == ("a0", "a1")
    assert plan(ResourceRequest(gpus=1), [mixed], AT).gpus == ("l4",)
    assert set(plan(ResourceRequest(gpus=3), [mixed], AT).gpus) == {"l4", "a0", "a1"}


def test_a_slice_comes_from_the_gpu_that_is_opened_already() -> None:
    sliced = node(
        "a",
        gpu("p"),
        gpu("q"),
        *(gpu(f"{parent}{n}", parent=parent, index=n) for parent in "pq" for n in range(2)),
        held={"q1": "x"},
    )
    assert plan(ResourceRequest(gpus=1), [sliced], AT).gpus == ("q0",)


# --- the refusal ------------------------------------------------------------------------------


def test_what_is_only_in_use_or_away_is_waited_for() -> None:
    busy = node("a", *devices("a", 1), held={"a0": "x"})
    never = node("b")
    with pytest.raises(NoCapacity) as refused:
        plan(ResourceRequest(gpus=1), [busy, never], AT)
    reasons = refused.value.facts["nodes"]
    assert [reason["code"] for reason in reasons["a"]] == ["no_free_gpu"]
    assert [reason["code"] for reason in reasons["b"]] == ["no_gpu"]
    with pytest.raises(NoCapacity):
        plan(ResourceRequest(), [node("a")], after(60))
    with pytest.raises(NoCapacity):
        plan(ResourceRequest(), [], AT)


def test_what_no_node_can_ever_run_is_not_waited_for() -> None:
    with pytest.raises(CannotPlace) as refused:
        plan(ResourceRequest(gpus=1), [node("a"), node("b", status=NodeStatus.LOST)], AT)
    assert type(refused.value) is CannotPlace
    assert set(refused.value.facts["nodes"]) == {"a", "b"}


# --- whatever the cluster looks like ----------------------------------------------------------

models = st.sampled_from(["NVIDIA A100-SXM4-80GB", "NVIDIA L4"])


@st.composite
def machines(draw: st.DrawFn, name: str) -> Node:
    count = draw(st.integers(0, 4))
    gpus = [
        gpu(f"{name}-{index}", index=index, model=draw(models), healthy=draw(st.booleans()))
        for index in range(count)
    ]
    if gpus and draw(st.booleans()):
        gpus += [gpu(f"{name}-s{n}", parent=gpus[0].uuid, index=n) for n in range(2)]
    held = draw(st.sets(st.sampled_from([each.uuid for each in gpus]))) if gpus else set()
    return node(
        name,
        uuid=name,
        status=draw(st.sampled_from([NodeStatus.READY, NodeStatus.READY, NodeStatus.LOST])),
        inventory=inventory(*gpus, cpus=8, memory_bytes=8),
        held=dict.fromkeys(held, "other"),
        leased_memory_bytes=draw(st.integers(0, 8)),
        leased_cpus=draw(st.integers(0, 8)),
        images=draw(st.sampled_from([[], ["sha256:1"]])),
        last_heartbeat=draw(st.sampled_from([AT, after(-60)])),
    )


clusters = st.integers(0, 4).flatmap(
    lambda count: st.tuples(*(machines(f"n{index}") for index in range(count)))
)
requests = st.builds(
    ResourceRequest,
    gpus=st.integers(0, 3),
    gpu_model=st.sampled_from([None, "a100", "l4"]),
    memory_bytes=st.integers(0, 9),
    cpus=st.integers(0, 9),
    digest=st.just("sha256:1"),
)


def outcome(request: ResourceRequest, nodes: list[Node]) -> Choice | type[CannotPlace]:
    try:
        return plan(request, nodes, AT)
    except CannotPlace as error:
        refusal = error
    assert set(refusal.facts["nodes"]) == {each.name for each in nodes}
    assert all(refusal.facts["nodes"].values())
    return type(refusal)


@settings(deadline=None)
@given(requests, clusters, st.randoms(use_true_random=False))
def test_a_choice_is_right_and_does_not_depend_on_the_order(
    request: ResourceRequest, cluster: tuple[Node, ...], rng: random.Random
) -> None:
    shuffled = rng.sample(cluster, len(cluster))
    first = outcome(request, list(cluster))
    assert first == outcome(request, shuffled)
    if isinstance(first, Choice):
        _assert_right(request, first)


def _assert_right(request: ResourceRequest, choice: Choice) -> None:
    node = choice.node
    found = {each.uuid: each for each in node.inventory.gpus}
    given = [found[uuid] for uuid in choice.gpus]
    assert len(set(choice.gpus)) == len(choice.gpus) == request.gpus
    assert node.status is NodeStatus.READY
    assert all(each.healthy and each.uuid not in node.held for each in given)
    assert not {each.uuid for each in given} & {each.parent for each in found.values()}
    assert not {each.parent for each in given} & set(node.held)
    assert node.leased_memory_bytes + request.memory_bytes <= 8 or not request.memory_bytes
    assert node.leased_cpus + request.cpus <= 8 or not request.cpus


@settings(deadline=None)
@given(requests, clusters)
def test_a_node_that_fits_is_never_left_unused(
    request: ResourceRequest, cluster: tuple[Node, ...]
) -> None:
    fits = [node for node in cluster if not refusals(request, node, now=AT, grace_s=20)]
    assert isinstance(outcome(request, list(cluster)), Choice) == bool(fits)


@settings(deadline=None)
@given(requests, clusters)
def test_waiting_is_promised_only_where_freeing_everything_would_help(
    request: ResourceRequest, cluster: tuple[Node, ...]
) -> None:
    freed = [
        node.model_copy(
            update={
                "status": NodeStatus.READY,
                "last_heartbeat": AT,
                "held": {},
                "leased_cpus": 0,
                "leased_memory_bytes": 0,
                "inventory": node.inventory.model_copy(
                    update={
                        "gpus": [
                            each.model_copy(update={"healthy": True})
                            for each in node.inventory.gpus
                        ]
                    }
                ),
            }
        )
        for node in cluster
    ]
    answer = outcome(request, list(cluster))
    if cluster and answer is NoCapacity:
        assert isinstance(outcome(request, freed), Choice)
    if answer is CannotPlace:
        assert outcome(request, freed) is CannotPlace


# --- what is closed, and ports that are taken --------------------------------------------------


def test_nothing_is_placed_on_a_cordoned_node_and_it_is_waited_for() -> None:
    with pytest.raises(NoCapacity) as waiting:
        plan(ResourceRequest(), [node("one", cordoned=True)], AT)
    assert waiting.value.facts["nodes"]["one"][0]["code"] == "cordoned"
    assert chosen(ResourceRequest(), node("one", cordoned=True), node("two")) == "two"


def test_a_host_port_is_given_once_on_each_node() -> None:
    lease = Lease(container="c", fence=1, host_ports=["8080/tcp"])
    busy = node("one", leases={"c": lease})
    with pytest.raises(NoCapacity) as waiting:
        plan(ResourceRequest(host_ports=("8080/tcp", "9/udp")), [busy], AT)
    assert "8080/tcp is in use" in waiting.value.facts["nodes"]["one"][0]["detail"]
    assert chosen(ResourceRequest(host_ports=("8080/udp",)), busy) == "one"
    assert chosen(ResourceRequest(host_ports=("8080/tcp",)), busy, node("two")) == "two"


def test_a_host_port_that_somebody_else_listens_on_is_wanted_from_another_node() -> None:
    busy = node("one", ports_in_use=["8080/tcp"])
    with pytest.raises(NoCapacity) as waiting:
        plan(ResourceRequest(host_ports=("8080/tcp", "9/udp")), [busy], AT)
    detail = waiting.value.facts["nodes"]["one"][0]["detail"]
    assert detail == "host port 8080/tcp is in use on the machine"
    assert chosen(ResourceRequest(host_ports=("8080/tcp",)), busy, node("two")) == "two"
    assert chosen(ResourceRequest(), busy) == "one"


def test_only_ports_that_are_asked_for_by_number_are_leased() -> None:
    ports = [PortSpec(internal=80), PortSpec(internal=81, host=8081, protocol="udp")]
    asked = planning.request(ContainerSpec(image="model", ports=ports), image())
    assert asked.host_ports == ("8081/udp",)


# --- GPUs that are away for a while -----------------------------------------------------------


def test_a_node_that_had_enough_gpus_is_waited_for() -> None:
    bare = node("one", had=inventory(*devices("g", 2)))
    with pytest.raises(NoCapacity) as waiting:
        plan(ResourceRequest(gpus=2, gpu_model="a100", driver="550"), [bare], AT)
    assert "2 when all were there" in waiting.value.facts["nodes"]["one"][0]["detail"]


def test_what_no_node_is_known_to_have_had_can_never_be_placed() -> None:
    bare = node("one", had=inventory(*devices("g", 2)))
    with pytest.raises(CannotPlace) as never:
        plan(ResourceRequest(gpus=3), [bare], AT)
    assert not isinstance(never.value, NoCapacity)


def test_the_most_that_a_node_had_is_remembered_until_it_is_back() -> None:
    whole, half, none = inventory(*devices("g", 2)), inventory(gpu("g0")), inventory()
    first = node("one", *devices("g", 2))
    assert first.remembered(half) == whole
    later = first.model_copy(update={"inventory": half, "had": whole})
    assert later.remembered(none) == whole
    assert later.remembered(whole) is None
    assert node("two").remembered(whole) is None
