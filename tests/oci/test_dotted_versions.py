from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.oci import dotted_versions

numbers = st.lists(st.integers(0, 1000), min_size=1, max_size=4)


def text(parts: list[int]) -> str:
    return ".".join(map(str, parts))


def test_trailing_zeros_do_not_count() -> None:
    assert (
        dotted_versions.parse("11")
        == dotted_versions.parse("11.0")
        == dotted_versions.parse("11.00")
        == (11,)
    )


def test_a_suffix_does_not_count() -> None:
    assert dotted_versions.parse("550.54.14-server") == (550, 54, 14)


def test_what_is_no_version_is_none() -> None:
    assert (
        dotted_versions.parse("unknown")
        is dotted_versions.parse("")
        is dotted_versions.parse(None)
        is None
    )


def test_parts_compare_as_integers_and_not_as_text() -> None:
    assert dotted_versions.reaches("535.104.05", "535.54.03")
    assert not dotted_versions.reaches("9.2", "10.0")


def test_no_requirement_is_always_reached() -> None:
    assert dotted_versions.reaches(None, None)
    assert dotted_versions.reaches("1.0", None)


def test_an_unknown_version_reaches_no_requirement() -> None:
    assert not dotted_versions.reaches(None, "1.0")


@settings(deadline=None)
@given(numbers, numbers)
def test_comparing_agrees_with_comparing_padded_lists(left: list[int], right: list[int]) -> None:
    padded = [each + [0] * (4 - len(each)) for each in (left, right)]
    assert dotted_versions.reaches(text(left), text(right)) == (padded[0] >= padded[1])
