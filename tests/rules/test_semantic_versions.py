from __future__ import annotations

import pytest

from pipeline.errors import InvalidInput
from pipeline.rules.semantic_versions import precedence, require, tag

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
    assert require(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "1", "1.0", "v1.0.0", "1.0.0-", "1.0.0-01", "1.0.0+", "1.0.0+a+b", "١.0.0", "1.0.0\n"],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        require(text)


def test_a_tag_has_no_plus() -> None:
    assert tag("1.0.0-rc.1+build.7") == "1.0.0-rc.1_build.7"
