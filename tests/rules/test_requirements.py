"""What images declare that they need."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.rules import requirements
from pipeline.rules.manifests import Config
from pipeline.rules.requirements import Least
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
    return requirements.read_needs(config)


def test_an_image_that_declares_nothing_needs_nothing() -> None:
    assert needs() == Needs(ports=[8080])


def test_the_requirement_of_a_cuda_image() -> None:
    found = needs(NVIDIA_REQUIRE_CUDA=CUDA_12_4, CUDA_VERSION="12.4.1")
    assert (found.gpus, found.cuda, found.driver) == (1, "12.4", None)


@pytest.mark.parametrize(
    ("requirement", "expected"),
    [
        ("cuda>=12.4", Least(cuda=(12, 4))),
        ("cuda>=11.0,driver>=450.80.02", Least(cuda=(11,), driver=(450, 80, 2))),
        ("cuda=9.0", Least(cuda=(9,))),
        ("arch>=7.5,cuda>=12.0", Least(cuda=(12,), arch=(7, 5))),
        ("driver>=470,driver<471", Least(driver=(470,))),
        ("cuda<12", Least()),
    ],
)
def test_conditions_of_one_alternative_are_all_demanded(requirement: str, expected: Least) -> None:
    assert list(requirements.alternatives(requirement)) == [expected]


@pytest.mark.parametrize(
    "requirement", ["", "cuda", "cuda>=", "cuda >= 12", "cuda>=12,,", "12", ">=12", "cuda=>12"]
)
def test_what_cannot_be_read_demands_nothing(requirement: str) -> None:
    assert list(requirements.alternatives(requirement)) == []


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
    labels = {requirements.GPUS_LABEL: label}
    assert needs(labels=labels, NVIDIA_REQUIRE_CUDA="cuda>=12").gpus == gpus


@pytest.mark.parametrize("off", ["1", "true", "TRUE"])
def test_requirements_can_be_switched_off(off: str) -> None:
    found = needs(NVIDIA_REQUIRE_CUDA="cuda>=13", NVIDIA_DISABLE_REQUIRE=off, CUDA_VERSION="12.4.1")
    assert found.cuda == "12.4"


@given(st.text(max_size=200), st.text(max_size=50), st.text(max_size=50))
def test_nothing_that_an_image_holds_breaks_the_reading(
    requirement: str, version: str, visible: str
) -> None:
    found = needs(
        NVIDIA_REQUIRE_CUDA=requirement, CUDA_VERSION=version, NVIDIA_VISIBLE_DEVICES=visible
    )
    assert 0 <= found.gpus <= requirements.GPUS_MAX
