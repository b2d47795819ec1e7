"""Why a node refuses a container."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.rules.eligibility import Reason, Request, available, fits_model, refusals, schedulable
from schemas.image import Platform
from schemas.node import Node
from schemas.states import NodeStatus
from tests.support.records import AMD64, AT, GIB, after, gpu, inventory, node


def why(request: Request, node: Node, at: float = 0) -> list[Reason]:
    return refusals(request, node, now=after(at), grace_s=20)


def only(request: Request, node: Node, at: float = 0) -> Reason:
    (reason,) = why(request, node, at)
    return reason


def test_a_node_that_fits_has_no_reasons() -> None:
    request = Request(
        gpus=1,
        gpu_model="a100",
        compute_capability="8.0",
        driver="525.60.13",
        cuda="12.0",
        memory_bytes=GIB,
        cpus=2,
        platform=AMD64,
        node="one",
        node_labels={"zone": "a"},
    )
    assert why(request, node("one", gpu("g"), labels={"zone": "a", "x": "y"})) == []


@pytest.mark.parametrize("status", [NodeStatus.LOST, NodeStatus.NOT_READY])
def test_a_node_that_is_not_ready_is_offline(status: NodeStatus) -> None:
    reason = only(Request(), node(status=status, reason="the engine does not answer"))
    assert (reason.code, reason.required, reason.actual) == ("offline", "READY", status)
    assert reason.detail.endswith("the engine does not answer")
    assert not reason.lasting


def test_a_node_that_is_silent_longer_than_the_grace_is_offline() -> None:
    assert why(Request(), node(), at=20) == []
    assert only(Request(), node(), at=21).code == "offline"


def test_a_machine_that_never_showed_itself_is_only_offline() -> None:
    bare = inventory(engine_version=None, platform=Platform(architecture="unknown"), cpus=0)
    unknown = node(status=NodeStatus.NOT_READY, inventory=bare)
    assert [r.code for r in why(Request(gpus=1, platform=AMD64, cpus=1), unknown)] == ["offline"]


def test_the_platform_must_be_the_same() -> None:
    arm = Request(platform=Platform(architecture="arm64"))
    reason = only(arm, node())
    assert (reason.code, reason.required, reason.actual) == (
        "platform",
        "linux/arm64",
        "linux/amd64",
    )


def test_only_the_pinned_node_may_take_it_by_name_or_uuid() -> None:
    one = node("one")
    assert why(Request(node="one"), one) == why(Request(node=one.uuid), one) == []
    assert only(Request(node="two"), one).code == "node"


def test_labels_that_are_missing_or_different_are_named() -> None:
    request = Request(node_labels={"zone": "a", "disk": "ssd", "x": "y"})
    reason = only(request, node(labels={"zone": "b", "x": "y"}))
    assert reason.code == "labels"
    assert reason.required == {"zone": "a", "disk": "ssd"}
    assert reason.actual == {"zone": "b", "disk": None}


# --- memory and cores -------------------------------------------------------------------------


def test_memory_that_is_leased_may_come_back() -> None:
    reason = only(Request(memory_bytes=2 * GIB), node(leased_memory_bytes=63 * GIB))
    assert (reason.code, reason.required, reason.actual) == ("memory", 2 * GIB, GIB)
    assert not reason.lasting


def test_memory_that_the_machine_does_not_have_never_comes() -> None:
    assert only(Request(memory_bytes=65 * GIB), node()).lasting


def test_cores_are_counted_in_fractions_without_dust() -> None:
    assert why(Request(cpus=0.3), node(leased_cpus=15.7)) == []
    assert why(Request(cpus=0.1), node(leased_cpus=0.1 + 0.2 + 15.6)) == []
    busy = only(Request(cpus=1), node(leased_cpus=15.5))
    assert (busy.code, busy.actual, busy.lasting) == ("cpu", 0.5, False)
    assert only(Request(cpus=17), node()).lasting


def test_who_asks_for_nothing_fits_on_a_full_node() -> None:
    full = node("one", gpu("g"), held={"g": "x"}, leased_cpus=16, leased_memory_bytes=64 * GIB)
    assert why(Request(), full) == []


# --- GPUs -------------------------------------------------------------------------------------


def test_a_node_without_gpus_says_all_that_applies() -> None:
    reasons = why(Request(gpus=1, driver="525.60.13", compute_capability="8.0"), node())
    assert {reason.code for reason in reasons} == {"no_gpu", "driver_unknown"}
    assert all(reason.lasting for reason in reasons)


def test_gpus_that_are_held_or_sick_may_come_back() -> None:
    busy = node("one", gpu("a"), gpu("b", healthy=False), gpu("c"), held={"a": "x"})
    reason = only(Request(gpus=2), busy)
    assert (reason.code, reason.required, reason.actual) == ("no_free_gpu", 2, 1)
    assert "1 in use, 1 out of order" in reason.detail
    assert not reason.lasting


def test_more_gpus_than_there_are_never_come() -> None:
    reason = only(Request(gpus=2), node("one", gpu("a")))
    assert (reason.code, reason.actual, reason.lasting) == ("no_gpu", 1, True)


def test_too_few_gpus_of_the_kind_never_become_more() -> None:
    mixed = node("one", gpu("a"), gpu("b", model="NVIDIA L4", compute_capability="8.9"))
    reason = only(Request(gpus=2, gpu_model="l4"), mixed)
    assert (reason.code, reason.required, reason.actual) == ("no_gpu", 2, 1)


def test_no_single_gpu_may_be_made_of_two() -> None:
    mixed = node(
        "one",
        gpu("a", model="NVIDIA L4", compute_capability="7.0"),
        gpu("b", model="NVIDIA A100", compute_capability="8.0"),
    )
    reason = only(Request(gpus=1, gpu_model="l4", compute_capability="8.0"), mixed)
    assert (reason.code, reason.actual) == ("no_gpu", 0)


def test_a_compute_capability_that_is_too_low_names_the_best() -> None:
    old = node("one", gpu("a", compute_capability="7.5"), gpu("b", compute_capability="6.1"))
    reason = only(Request(gpus=1, compute_capability="8.0"), old)
    assert (reason.code, reason.actual) == ("compute_capability_too_low", "7.5")


def test_another_model_is_named() -> None:
    reason = only(Request(gpus=1, gpu_model="H100"), node("one", gpu("a")))
    assert (reason.code, reason.actual) == ("gpu_model", ["NVIDIA A100-SXM4-80GB"])


@pytest.mark.parametrize(
    ("wanted", "model"),
    [
        ("nvidia-a100", "NVIDIA A100-SXM4-80GB"),
        ("A100", "NVIDIA A100-SXM4-80GB"),
        ("a100-80gb", "NVIDIA A100-SXM4-80GB"),
        ("H100-80GB", "NVIDIA H100 80GB HBM3"),
        ("nvidia", "NVIDIA L4"),
        (None, "NVIDIA L4"),
        ("mi300x", "AMD Instinct MI300X"),
    ],
)
def test_a_model_fits(wanted: str | None, model: str) -> None:
    assert fits_model(wanted, model)


@pytest.mark.parametrize(
    ("wanted", "model"),
    [("a10", "NVIDIA A100-SXM4-80GB"), ("l4", "NVIDIA L40S"), ("a100-40gb", "NVIDIA A100 80GB")],
)
def test_a_model_does_not_fit(wanted: str, model: str) -> None:
    assert not fits_model(wanted, model)


@pytest.mark.parametrize(
    ("needs", "has", "code"),
    [
        ({"driver": "525.60.13"}, {"driver": "515.65.01"}, "driver_too_old"),
        ({"driver": "525.60.13"}, {"driver": None}, "driver_unknown"),
        ({"cuda": "12.10"}, {"cuda": "12.9"}, "cuda_too_old"),
        ({"cuda": "12.0"}, {"cuda": None}, "driver_unknown"),
    ],
)
def test_software_that_is_too_old_is_refused_before_any_pull(
    needs: dict[str, str], has: dict[str, Any], code: str
) -> None:
    machine = node("one", inventory=inventory(gpu("a"), **has))
    reason = only(Request(gpus=1, **needs), machine)
    assert (reason.code, reason.lasting) == (code, True)
    assert (reason.required, reason.actual) == (*needs.values(), *has.values())


def test_who_needs_no_gpu_needs_no_driver() -> None:
    assert why(Request(driver="525.60.13", cuda="12.0", compute_capability="9.0"), node()) == []


def test_all_that_applies_is_said_at_once() -> None:
    bad = node("one", gpu("a", compute_capability="7.0"), status=NodeStatus.LOST, leased_cpus=16)
    request = Request(
        gpus=1,
        gpu_model="h100",
        compute_capability="9.0",
        driver="999",
        cuda="99",
        memory_bytes=100 * GIB,
        cpus=1,
        platform=Platform(architecture="arm64"),
        node="two",
        node_labels={"a": "b"},
    )
    software = {"driver_too_old", "cuda_too_old"}
    hardware = {"platform", "memory", "cpu", "gpu_model", "compute_capability_too_low"}
    codes = [reason.code for reason in why(request, bad)]
    assert set(codes) == {"offline", "node", "labels"} | hardware | software
    assert len(codes) == len(set(codes))


def test_a_reason_for_callers_has_four_members() -> None:
    facts = only(Request(cpus=17), node()).facts()
    assert set(facts) == {"code", "detail", "required", "actual"}


# --- MIG --------------------------------------------------------------------------------------


def test_a_gpu_is_never_offered_together_with_its_slices() -> None:
    sliced = node("one", gpu("whole"), gpu("s1", parent="whole"), gpu("s2", parent="whole"))
    assert [each.uuid for each in schedulable(sliced)] == ["s1", "s2"]
    assert only(Request(gpus=3), sliced).code == "no_gpu"


def test_slices_of_a_gpu_that_is_held_whole_are_not_free() -> None:
    held = node("one", gpu("whole"), gpu("s1", parent="whole"), held={"whole": "x"})
    assert available(Request(gpus=1), held) == []


def test_the_clock_of_the_node_may_be_ahead() -> None:
    assert why(Request(), node(at=after(30))) == []
    assert after(30) > AT
