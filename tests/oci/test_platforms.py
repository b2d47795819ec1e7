"""Platforms are compared the way engines do."""

from __future__ import annotations

import pytest

from pipeline.errors import ImageRejected, InvalidInput
from pipeline.oci import platforms
from pipeline.oci.platforms import AMD64, ARM64
from schemas.image import Platform


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", AMD64),
        ("amd64", AMD64),
        ("x86_64", AMD64),
        ("Linux/AArch64", ARM64),
        ("linux/arm64/v8", Platform(architecture="arm64", variant="v8")),
        ("windows/amd64", Platform(os="windows", architecture="amd64")),
    ],
)
def test_spellings(text: str, expected: Platform) -> None:
    assert platforms.parse(text) == expected


@pytest.mark.parametrize("text", ["", "/", "linux/", "a/b/c/d", "linux/amd 64", "l" * 40, "a\n"])
def test_what_is_no_platform_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        platforms.parse(text)


@pytest.mark.parametrize(
    ("have", "wanted", "fits"),
    [
        ("linux/amd64", "linux/amd64", True),
        ("linux/arm64", "linux/arm64/v8", True),
        ("linux/arm64/v8", "linux/arm64", True),
        ("linux/amd64/v3", "linux/amd64", True),
        ("linux/amd64", "linux/amd64/v3", False),
        ("linux/arm/v6", "linux/arm/v7", False),
        ("linux/arm", "linux/arm/v7", True),
        ("linux/arm64", "linux/amd64", False),
        ("windows/amd64", "linux/amd64", False),
    ],
)
def test_a_variant_counts_only_when_asked_for(have: str, wanted: str, fits: bool) -> None:
    assert platforms.fits(platforms.parse(have), platforms.parse(wanted)) is fits


def choose(*offered: str, wanted: str | None = None, host: str = "linux/amd64") -> str:
    return platforms.choose(
        [(platforms.parse(text), text) for text in offered],
        wanted=platforms.parse(wanted) if wanted else None,
        host=platforms.parse(host),
    )


def test_the_hosts_platform_is_preferred() -> None:
    offered = ("linux/amd64", "linux/arm64/v8")
    assert choose(*offered) == "linux/amd64"
    assert choose(*offered, host="linux/arm64") == "linux/arm64/v8"


def test_the_plain_variant_is_preferred() -> None:
    assert choose("linux/amd64/v3", "linux/amd64") == "linux/amd64"
    assert choose("linux/arm64/v9", "linux/arm64/v8", host="linux/arm64") == "linux/arm64/v8"


def test_what_is_asked_for_is_taken_exactly() -> None:
    assert choose("linux/amd64", "linux/amd64/v3", wanted="linux/amd64/v3") == "linux/amd64/v3"
    with pytest.raises(ImageRejected):
        choose("linux/amd64", wanted="linux/arm64")


def test_a_supported_platform_is_taken_when_the_hosts_is_absent() -> None:
    assert choose("linux/s390x", "linux/arm64") == "linux/arm64"


def test_the_refusal_names_all_that_is_there() -> None:
    with pytest.raises(ImageRejected, match="linux/ppc64le, linux/s390x, not for linux/amd64 or"):
        choose("linux/s390x", "linux/ppc64le")
