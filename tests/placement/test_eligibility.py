"""Why a node refuses a container."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.adapters.gpus import simulated_spec
from pipeline.containers.specs import fits_model
from pipeline.oci import image_needs
from pipeline.placement.eligibility import (
    Reason,
    ResourceRequest,
    available,
    brands_of,
    refusals,
    schedulable,
)
from schemas.image import Platform
from schemas.node import Node
from schemas.states import NodeStatus
from tests.support.records import AMD64, AT, GIB, after, gpu, inventory, node

DATA_CENTER = {"tesla", "nvidia"}


def why(request: ResourceRequest, node: Node, at: float = 0) -> list[Reason]:
    return refusals(request, node, now=after(at), grace_s=20)


def only(request: ResourceRequest, node: Node, at: float = 0) -> Reason:
    (reason,) = why(request, node, at)
    return reason


def test_a_node_that_fits_has_no_reasons() -> None:
    request = ResourceRequest(
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


def test_a_container_goes_where_its_volumes_are() -> None:
    here, away = node("one"), node("two")
    request = ResourceRequest(node=here.uuid, volume="its volume /data is on one")
    assert why(request, here) == []
    reason = only(request, away)
    assert (reason.code, reason.detail) == ("volume", "its volume /data is on one")
    assert reason.lasting


@pytest.mark.parametrize("status", [NodeStatus.LOST, NodeStatus.NOT_READY])
def test_a_node_that_is_not_ready_is_offline(status: NodeStatus) -> None:
    reason = only(ResourceRequest(), node(status=status, reason="the engine does not answer"))
    assert (reason.code, reason.required, reason.actual) == ("offline", "READY", status)
    assert reason.detail.endswith("the engine does not answer")
    assert not reason.lasting


def test_a_node_that_is_silent_longer_than_the_grace_is_offline() -> None:
    assert why(ResourceRequest(), node(), at=20) == []
    assert only(ResourceRequest(), node(), at=21).code == "offline"


def test_a_machine_that_never_showed_itself_is_only_offline() -> None:
    bare = inventory(engine_version=None, platform=Platform(architecture="unknown"), cpus=0)
    unknown = node(status=NodeStatus.NOT_READY, inventory=bare)
    assert [r.code for r in why(ResourceRequest(gpus=1, platform=AMD64, cpus=1), unknown)] == [
        "offline"
    ]


def test_the_platform_must_be_the_same() -> None:
    arm = ResourceRequest(platform=Platform(architecture="arm64"))
    reason = only(arm, node())
    assert (reason.code, reason.required, reason.actual) == (
        "platform",
        "linux/arm64",
        "linux/amd64",
    )


def test_only_the_pinned_node_may_take_it_by_name_or_uuid() -> None:
    one = node("one")
    assert why(ResourceRequest(node="one"), one) == why(ResourceRequest(node=one.uuid), one) == []
    assert only(ResourceRequest(node="two"), one).code == "node"


def test_labels_that_are_missing_or_different_are_named() -> None:
    request = ResourceRequest(node_labels={"zone": "a", "disk": "ssd", "x": "y"})
    reason = only(request, node(labels={"zone": "b", "x": "y"}))
    assert reason.code == "labels"
    assert reason.required == {"zone": "a", "disk": "ssd"}
    assert reason.actual == {"zone": "b", "disk": None}


# --- memory and cores -------------------------------------------------------------------------


def test_memory_that_is_leased_may_come_back() -> None:
    reason = only(ResourceRequest(memory_bytes=2 * GIB), node(leased_memory_bytes=63 * GIB))
    assert (reason.code, reason.required, reason.actual) == ("memory", 2 * GIB, GIB)
    assert not reason.lasting


def test_memory_that_the_machine_does_not_have_never_comes() -> None:
    assert only(ResourceRequest(memory_bytes=65 * GIB), node()).lasting


def test_cores_are_counted_in_fractions_without_dust() -> None:
    assert why(ResourceRequest(cpus=0.3), node(leased_cpus=15.7)) == []
    assert why(ResourceRequest(cpus=0.1), node(leased_cpus=0.1 + 0.2 + 15.6)) == []
    busy = only(ResourceRequest(cpus=1), node(leased_cpus=15.5))
    assert (busy.code, busy.actual, busy.lasting) == ("cpu", 0.5, False)
    assert only(ResourceRequest(cpus=17), node()).lasting


def test_who_asks_for_nothing_fits_on_a_full_node() -> None:
    full = node("one", gpu("g"), held={"g": "x"}, leased_cpus=16, leased_memory_bytes=64 * GIB)
    assert why(ResourceRequest(), full) == []


# --- all of it ------------------------------------------------------------------------------


def test_all_that_applies_is_said_at_once() -> None:
    bad = node("one", gpu("a", compute_capability="7.0"), status=NodeStatus.LOST, leased_cpus=16)
    request = ResourceRequest(
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
    facts = only(ResourceRequest(cpus=17), node()).facts()
    assert set(facts) == {"code", "detail", "required", "actual"}


def test_the_clock_of_the_node_may_be_ahead() -> None:
    assert why(ResourceRequest(), node(at=after(30))) == []
    assert after(30) > AT


def test_a_node_without_gpus_says_all_that_applies() -> None:
    reasons = why(ResourceRequest(gpus=1, driver="525.60.13", compute_capability="8.0"), node())
    assert {reason.code for reason in reasons} == {"no_gpu", "driver_unknown"}
    assert all(reason.lasting for reason in reasons)


def test_gpus_that_are_held_or_sick_may_come_back() -> None:
    busy = node("one", gpu("a"), gpu("b", healthy=False), gpu("c"), held={"a": "x"})
    reason = only(ResourceRequest(gpus=2), busy)
    assert (reason.code, reason.required, reason.actual) == ("no_free_gpu", 2, 1)
    assert "1 in use, 1 out of order" in reason.detail
    assert not reason.lasting


def test_more_gpus_than_there_are_never_come() -> None:
    reason = only(ResourceRequest(gpus=2), node("one", gpu("a")))
    assert (reason.code, reason.actual, reason.lasting) == ("no_gpu", 1, True)


def test_too_few_gpus_of_the_kind_never_become_more() -> None:
    mixed = node("one", gpu("a"), gpu("b", model="NVIDIA L4", compute_capability="8.9"))
    reason = only(ResourceRequest(gpus=2, gpu_model="l4"), mixed)
    assert (reason.code, reason.required, reason.actual) == ("no_gpu", 2, 1)


def test_no_single_gpu_may_be_made_of_two() -> None:
    mixed = node(
        "one",
        gpu("a", model="NVIDIA L4", compute_capability="7.0"),
        gpu("b", model="NVIDIA A100", compute_capability="8.0"),
    )
    reason = only(ResourceRequest(gpus=1, gpu_model="l4", compute_capability="8.0"), mixed)
    assert (reason.code, reason.actual) == ("compute_capability_too_low", "7.0")


def test_a_compute_capability_that_is_too_low_names_the_best() -> None:
    old = node("one", gpu("a", compute_capability="7.5"), gpu("b", compute_capability="6.1"))
    reason = only(ResourceRequest(gpus=1, compute_capability="8.0"), old)
    assert (reason.code, reason.actual) == ("compute_capability_too_low", "7.5")


def test_another_model_is_named() -> None:
    reason = only(ResourceRequest(gpus=1, gpu_model="H100"), node("one", gpu("a")))
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
    reason = only(ResourceRequest(gpus=1, **needs), machine)
    assert (reason.code, reason.lasting) == (code, True)
    assert (reason.required, reason.actual) == (*needs.values(), *has.values())


def test_who_needs_no_gpu_needs_no_driver() -> None:
    assert (
        why(ResourceRequest(driver="525.60.13", cuda="12.0", compute_capability="9.0"), node())
        == []
    )


# --- MIG --------------------------------------------------------------------------------------


def test_a_gpu_is_never_offered_together_with_its_slices() -> None:
    sliced = node("one", gpu("whole"), gpu("s1", parent="whole"), gpu("s2", parent="whole"))
    assert [each.uuid for each in schedulable(sliced)] == ["s1", "s2"]
    assert only(ResourceRequest(gpus=3), sliced).code == "no_gpu"


def test_slices_of_a_gpu_that_is_held_whole_are_not_free() -> None:
    held = node("one", gpu("whole"), gpu("s1", parent="whole"), held={"whole": "x"})
    assert available(ResourceRequest(gpus=1), held) == []


# --- requirements of NVIDIA's container toolkit -----------------------------------------------

PUBLISHED = (
    "cuda>=12.9 brand=unknown,driver>=535,driver<536 brand=tesla,driver>=535,driver<536"
    " brand=nvidia,driver>=535,driver<536 brand=tesla,driver>=570,driver<571"
)
"""Of an image that NVIDIA publishes, shortened."""


def requiring(*texts: str, **asked: Any) -> ResourceRequest:
    env = {f"NVIDIA_REQUIRE_{n}": text for n, text in enumerate(texts)}
    return ResourceRequest(gpus=1, requirements=image_needs.read(env), **asked)


H100 = {"model": "NVIDIA H100 80GB HBM3", "compute_capability": "9.0"}
GEFORCE = {"model": "NVIDIA GeForce RTX 4090", "compute_capability": "8.9"}


@pytest.mark.parametrize(
    ("texts", "driver", "cuda", "codes"),
    [
        ([PUBLISHED], "570.86.15", "12.8", []),
        ([PUBLISHED], "575.57.08", "12.9", []),
        ([PUBLISHED], "560.35.03", "12.6", ["cuda_too_old"]),
        (["cuda>=12.9", "driver>=1"], "570.86.15", "12.8", ["cuda_too_old"]),
        (["driver<550"], "570.86.15", "12.8", ["driver_too_new"]),
        (["driver=535"], "570.86.15", "12.8", ["driver_too_new"]),
        (["arch>=9.1"], "570.86.15", "12.8", ["compute_capability_too_low"]),
        (["arch<9.0"], "570.86.15", "12.8", ["compute_capability_too_high"]),
        (["driver>=9999,arch>=99.0 driver>=1"], "570.86.15", "12.8", []),
        (["brand=geforce"], "570.86.15", "12.8", ["gpu_brand"]),
        (["brand!=tesla"], "570.86.15", "12.8", ["gpu_brand"]),
        (["cuda>=12.0"], None, None, ["driver_unknown"]),
        (["cuda>=12.9,driver>=575,arch>=9.0"], "570", "12.8", ["cuda_too_old", "driver_too_old"]),
    ],
)
def test_one_alternative_of_every_requirement_must_hold(
    texts: list[str], driver: str | None, cuda: str | None, codes: list[str]
) -> None:
    machine = node("one", inventory=inventory(gpu("a", **H100), driver=driver, cuda=cuda))
    assert [reason.code for reason in why(requiring(*texts), machine)] == codes


def test_a_bound_is_told_with_what_the_node_has() -> None:
    machine = node("one", inventory=inventory(gpu("a", **H100), driver="560.35.03", cuda="12.6"))
    reason = only(requiring(PUBLISHED), machine)
    assert (reason.required, reason.actual, reason.lasting) == ("12.9", "12.6", True)
    upper = only(requiring("driver<550"), machine)
    assert (upper.required, upper.actual) == ("<550", "560.35.03")
    assert upper.detail == "NVIDIA driver <550 needed, the node has 560.35.03"


def test_only_gpus_of_the_brand_are_given() -> None:
    machine = node("one", gpu("a", **H100), gpu("b", **GEFORCE))
    assert [each.uuid for each in available(requiring("brand=tesla"), machine)] == ["a"]
    assert [each.uuid for each in available(requiring("brand=geforce"), machine)] == ["b"]
    both = requiring("brand=tesla", "brand=geforce")
    assert only(both, machine).code == "gpu_brand"


def test_of_gpus_of_the_brand_there_may_be_too_few() -> None:
    machine = node("one", gpu("a", **H100), gpu("b", **GEFORCE))
    request = ResourceRequest(gpus=2, requirements=requiring("brand=tesla").requirements)
    assert (only(request, machine).code, only(request, machine).actual) == ("no_gpu", 1)


def test_a_node_without_gpus_is_not_asked_for_their_brand() -> None:
    assert [reason.code for reason in why(requiring("brand=tesla,arch>=9.0"), node())] == ["no_gpu"]


def test_who_needs_no_gpu_meets_every_requirement() -> None:
    requirements = requiring("cuda>=99").requirements
    assert why(ResourceRequest(requirements=requirements), node()) == []


@pytest.mark.parametrize(
    ("model", "brands"),
    [
        ("Tesla V100-SXM2-16GB", DATA_CENTER),
        ("Tesla P40", DATA_CENTER),
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", DATA_CENTER),
        ("NVIDIA GH200 480GB", DATA_CENTER),
        ("NVIDIA GeForce RTX 4090", {"geforcertx", "geforce"}),
        ("GeForce GTX 1080 Ti", {"geforce"}),
        ("Quadro RTX 8000", {"quadrortx"}),
        ("Quadro P4000", {"quadro"}),
        ("NVIDIA TITAN RTX", {"titanrtx", "titan"}),
        ("NVIDIA TITAN V", {"titan"}),
        ("NVIDIA RTX A6000", {"nvidiartx"}),
        ("NVIDIA RTX 6000 Ada Generation", {"nvidiartx"}),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", {"nvidiartx"}),
        ("GRID V100DX-16Q", {"grid"}),
        ("NVIDIA X900", set()),
    ],
)
def test_the_name_of_a_model_tells_its_brand(model: str, brands: set[str]) -> None:
    assert brands_of(gpu("a", model=model)) == brands


def test_what_nvml_told_counts_before_the_name() -> None:
    assert brands_of(gpu("a", model="NVIDIA A10-24Q", brand="vws")) == {"vws"}
    assert brands_of(gpu("a", model="NVIDIA X900", brand="nvidia")) == DATA_CENTER


def test_every_gpu_that_can_be_simulated_has_a_brand() -> None:
    for text in ("P100", "V100", "T4", "A100", "A30", "A2", "A10", "A10G", "A40", "L4", "L40"):
        (simulated,) = simulated_spec.parse(f"1x{text}")
        assert brands_of(gpu("a", model=simulated.model)) == DATA_CENTER
    for text in ("L40S", "H100", "H200", "B200"):
        (simulated,) = simulated_spec.parse(f"1x{text}")
        assert brands_of(gpu("a", model=simulated.model)) == DATA_CENTER
    for text in ("RTX3090", "RTX4090"):
        (simulated,) = simulated_spec.parse(f"1x{text}")
        assert "geforce" in brands_of(gpu("a", model=simulated.model))
