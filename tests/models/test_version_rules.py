from __future__ import annotations

import pytest

from pipeline.errors import InvalidInput
from pipeline.models.version_rules import GIB, LISTED, find_requirement, precedence, require_version
from pipeline.oci import repositories

# The order of https://semver.org/#spec-item-11.
ORDERED = [
    "0.9.0",
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
    "1.0.0+build.1",
    "1.2.0",
    "1.10.0",
    "2.0.0",
]


def test_versions_sort_as_semantic_versioning_says() -> None:
    mixed = ORDERED[6:] + ORDERED[5::-1]
    assert sorted(mixed, key=precedence) == ORDERED


@pytest.mark.parametrize("text", ORDERED)
def test_a_version_is_taken_as_it_is(text: str) -> None:
    assert require_version(text) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "1", "1.0", "v1.0.0", "1.0.0-", "1.0.0-01", "1.0.0+", "1.0.0+a+b"),
        *("١.0.0", "1١.0.0", "1.0.0\n", f"1.{'9' * 19}.0"),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        require_version(text)


def test_a_tag_has_no_plus() -> None:
    assert repositories.of_version("m1", "1.0.0-rc.1+build.7").tag == "1.0.0-rc.1_build.7"


def test_the_first_is_what_a_version_has_when_it_asks_for_nothing() -> None:
    assert (
        find_requirement(1).cpus,
        find_requirement(1).memory_bytes,
        find_requirement(1).gpus,
    ) == (1, GIB, 0)


def test_those_that_clients_know_by_heart_are_not_in_the_list() -> None:
    """A program that chooses by size would find a GPU where it asked for none."""
    assert find_requirement(-6).gpus == 1
    assert find_requirement(-99).gpus == 0
    assert all(each.id > 0 and not each.gpus for each in LISTED)


def test_an_unknown_one_is_refused() -> None:
    with pytest.raises(InvalidInput, match="12345"):
        find_requirement(12345)
