"""What images declare that they need."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.oci import image_needs
from pipeline.oci.image_needs import BUILT_WITH, CUDA, DISABLE, VALUE_MAX, Facts
from pipeline.oci.manifests import Config
from schemas.image import Needs, Platform

CUDA_12_4 = (
    "cuda>=12.4 brand=tesla,driver>=470,driver<471 brand=unknown,driver>=470,driver<471"
    " brand=nvidia,driver>=535,driver<536 brand=geforcertx,driver>=535,driver<536"
)
"""As it stands in the published CUDA 12.4 images, shortened."""


def needs(*, labels: dict[str, str] | None = None, **env: str) -> Needs:
    config = Config(
        platform=Platform(architecture="amd64"),
        labels=labels or {},
        env=env,
        ports=(8080,),
        command=("x",),
        user="",
        has_healthcheck=False,
    )
    return image_needs.read_needs(config)


def test_an_image_that_declares_nothing_needs_nothing() -> None:
    assert needs() == Needs(ports=[8080])


def test_the_requirement_of_a_cuda_image() -> None:
    found = needs(NVIDIA_REQUIRE_CUDA=CUDA_12_4, CUDA_VERSION="12.4.1")
    assert (found.gpus, found.cuda, found.driver) == (1, "12.4", None)


@pytest.mark.parametrize(
    ("requirement", "cuda", "driver", "arch"),
    [
        ("cuda>=12.4 cuda>=11.8", "11.8", None, None),
        ("brand=tesla,driver>=470 cuda>=12.4,driver>=550.54.14", "12.4", "550.54.14", None),
        ("brand=tesla,driver>=470", None, "470.0", None),
        ("cuda>=12.0,arch>=7.0", "12.0", None, "7.0"),
        ("nonsense cuda>=12.1", "12.1", None, None),
    ],
)
def test_the_easiest_alternative_with_cuda_counts(
    requirement: str, cuda: str | None, driver: str | None, arch: str | None
) -> None:
    found = needs(NVIDIA_REQUIRE_CUDA=requirement)
    assert (found.cuda, found.driver, found.compute_capability) == (cuda, driver, arch)


@pytest.mark.parametrize(
    ("version", "cuda"),
    [
        ("12.4.1", "12.4"),
        ("11", "11.0"),
        ("12.0", "12.0"),
        ("", None),
        ("x", None),
        ("9" * 9999, None),
    ],
)
def test_the_cuda_version_it_was_built_with(version: str, cuda: str | None) -> None:
    found = needs(CUDA_VERSION=version)
    assert found.cuda == cuda
    assert found.gpus == 0


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [("all", 1), ("0", 1), ("0,1,2", 3), ("0,0", 1), ("GPU-a,GPU-b", 2), ("none", 0), ("void", 0)],
)
def test_visible_devices_say_how_many(visible: str, gpus: int) -> None:
    assert needs(NVIDIA_REQUIRE_CUDA="cuda>=12", NVIDIA_VISIBLE_DEVICES=visible).gpus == gpus
    assert needs(NVIDIA_VISIBLE_DEVICES=visible).gpus == 0


@pytest.mark.parametrize(
    ("label", "gpus"), [("4", 4), ("0", 0), ("-1", 1), ("many", 1), ("99999", 1), ("²", 1)]
)
def test_the_label_wins_when_it_can_be_read(label: str, gpus: int) -> None:
    labels = {image_needs.GPUS_LABEL: label}
    assert needs(labels=labels, NVIDIA_REQUIRE_CUDA="cuda>=12").gpus == gpus


@pytest.mark.parametrize("off", ["1", "true", "TRUE"])
def test_requirements_that_are_switched_off_leave_the_gpus(off: str) -> None:
    found = needs(NVIDIA_REQUIRE_CUDA="cuda>=13", NVIDIA_DISABLE_REQUIRE=off, CUDA_VERSION="12.4.1")
    assert (found.cuda, found.gpus) == (None, 1)


def test_every_variable_counts_and_the_strictest_bound_is_shown() -> None:
    found = needs(NVIDIA_REQUIRE_CUDA="cuda>=12.4", NVIDIA_REQUIRE_OWN="cuda>=12.6,arch>=9.0")
    assert (found.cuda, found.compute_capability) == ("12.6", "9.0")
    assert needs(NVIDIA_REQUIRE_OWN="driver>=535").gpus == 1


@given(st.text(max_size=200), st.text(max_size=50), st.text(max_size=50))
def test_nothing_that_an_image_holds_breaks_the_reading(
    requirement: str, version: str, visible: str
) -> None:
    found = needs(
        NVIDIA_REQUIRE_CUDA=requirement, CUDA_VERSION=version, NVIDIA_VISIBLE_DEVICES=visible
    )
    assert 0 <= found.gpus <= image_needs.GPUS_MAX


# --- The requirement language of NVIDIA's container toolkit

H100 = Facts(cuda="12.8", driver="570.86.15", arch="9.0", brands=frozenset({"tesla", "nvidia"}))


def holds(text: str, facts: Facts = H100) -> bool:
    return not any(one.unmet(facts) for one in image_needs.read({CUDA: text}))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cuda>=12.8", True),
        ("cuda>12.8", False),
        ("cuda>12.7", True),
        ("cuda<=12.8", True),
        ("cuda<12.8", False),
        ("cuda=12.8", True),
        ("cuda=12.8.0", True),
        ("cuda!=12.8", False),
        ("driver>=570", True),
        ("driver=570", False),
        ("driver<=570", False),
        ("driver<571", True),
        ("driver>=570,driver<571", True),
        ("driver>=570,driver<570.50", False),
        ("arch>=9.0", True),
        ("arch=9", True),
        ("arch<9.0", False),
        ("brand=tesla", True),
        ("brand=TESLA", True),
        ("BRAND=nvidia", True),
        ("brand=geforce", False),
        ("brand!=geforce", True),
        ("brand!=tesla", False),
        ("cuda>=13 driver>=570", True),
        ("cuda>=13 driver>=580", False),
        ("  cuda>=13   driver>=570  ", True),
        ("cuda>=12.8,", True),
        ("cuda>=12,,driver>=570", True),
        ("cuda>=13,driver>=570 cuda>=12,brand=geforce", False),
        ("cuda>=12.9 brand=tesla,driver>=570,driver<571", True),
    ],
)
def test_spaces_are_or_and_commas_are_and(text: str, expected: bool) -> None:
    assert holds(text) is expected


def test_all_variables_must_hold() -> None:
    one = image_needs.read({CUDA: "cuda>=12.0", "NVIDIA_REQUIRE_DRIVER": "driver>=580"})
    assert [bool(each.unmet(H100)) for each in one] == [False, True]


@pytest.mark.parametrize(
    ("env", "variables"),
    [
        ({BUILT_WITH: "12.4.1"}, [CUDA]),
        ({BUILT_WITH: "12.4.1", CUDA: ""}, [CUDA]),
        ({BUILT_WITH: "12.4.1", "NVIDIA_REQUIRE_OWN": "arch>=8.0"}, ["NVIDIA_REQUIRE_OWN", CUDA]),
        ({BUILT_WITH: "12.4.1", CUDA: "driver>=535"}, [CUDA]),
        ({BUILT_WITH: "newest"}, []),
        ({"NVIDIA_REQUIRE_JETPACK": "csv-mounts=all"}, []),
        ({"NVIDIA_REQUIRE_JETPACK_HOST_MOUNTS": "base-only"}, []),
        ({CUDA: "cuda>=12", DISABLE: "1"}, []),
        ({CUDA: "cuda>=12", DISABLE: "True", BUILT_WITH: "12"}, []),
        ({CUDA: "cuda>=12", DISABLE: "0"}, [CUDA]),
        ({CUDA: "cuda>=12", DISABLE: "yes"}, [CUDA]),
    ],
)
def test_which_variables_require_something(env: dict[str, str], variables: list[str]) -> None:
    assert [one.variable for one in image_needs.read(env)] == variables


def test_an_image_of_before_requires_the_version_it_was_built_with() -> None:
    (one,) = image_needs.read({BUILT_WITH: "12.9.1"})
    assert [(c.name, c.operator, c.value) for c in one.unmet(H100)] == [("cuda", ">=", "12.9")]


def test_what_nobody_knows_of_a_gpu_is_taken_to_fit_and_an_unknown_driver_is_not() -> None:
    bare = Facts(cuda=None, driver=None, arch=None, brands=frozenset())
    assert holds("brand=tesla,arch>=9.0", bare)
    assert holds("brand!=tesla", bare)
    assert not holds("cuda>=1", bare)
    assert not holds("driver<9999", bare)


def test_the_alternative_with_a_cuda_version_is_told() -> None:
    text = "brand=geforce,driver>=1 cuda>=13,driver>=580,arch>=8.0 cuda>=14"
    (one,) = image_needs.read({CUDA: text})
    assert [condition.name for condition in one.unmet(H100)] == ["cuda", "driver"]


def test_conditions_that_somebody_else_answers_count_as_met() -> None:
    env = {CUDA: "cuda>=99,driver>=99999 brand=geforce"}
    assert image_needs.read(env, without=["cuda", "driver"]) == ()
    (one,) = image_needs.read(env, without=["cuda"])
    assert [condition.name for condition in one.unmet(H100)] == ["driver"]


@pytest.mark.parametrize(
    "text",
    [
        "cuda",
        "cuda>=",
        "cuda >= 12",
        "12",
        ">=12",
        "cuda=>12",
        "cuda>=twelve",
        "brand>=tesla",
        "memory>=80",
        f"cuda>={'9' * 999}",
        "cuda>=٣",
        f"cuda>=12{' ' * VALUE_MAX}",
    ],
)
def test_what_cannot_be_read_demands_nothing_and_is_named(text: str) -> None:
    assert image_needs.read({CUDA: text}) == ()
    assert image_needs.unreadable({CUDA: text, "NVIDIA_REQUIRE_OWN": "cuda>=1"}) == [CUDA]
    assert holds(f"{text} cuda>=1")


def test_only_what_the_toolkit_reads_is_kept() -> None:
    env = {"PATH": "/bin", "TOKEN": "x", CUDA: "cuda>=12", DISABLE: "0", BUILT_WITH: "12.4"}
    kept = image_needs.variables(env | {"NVIDIA_REQUIRE_OWN": "é", "NVIDIA_REQUIRE_A\0": "x"})
    assert kept == {CUDA: "cuda>=12", DISABLE: "0", BUILT_WITH: "12.4"}


def test_of_a_great_many_variables_only_so_much_is_kept() -> None:
    env = {f"NVIDIA_REQUIRE_{n}": "cuda>=12 " * 20 for n in range(9_999)} | {DISABLE: "1"}
    kept = image_needs.variables(env)
    assert DISABLE in kept
    assert sum(len(name) + len(text) for name, text in kept.items()) <= VALUE_MAX


@given(st.text(alphabet="cudarivebnshtl<>=!., 0123456789", max_size=60))
def test_no_text_of_a_requirement_breaks_the_reading(text: str) -> None:
    holds(text)
    image_needs.unreadable({CUDA: text, BUILT_WITH: text})
