import warnings

import pytest

from pipeline.errors import InvalidInput
from pipeline.rules.filter_patterns import check_pattern
from pipeline.rules.filter_tree import MatchesText


def refusal(pattern: str, options: str = "") -> str:
    with pytest.raises(InvalidInput) as caught:
        check_pattern(MatchesText(pattern, options), "a")
    return str(caught.value)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+",
        "(a*)*",
        "(a+)*$",
        "(.*)+",
        "^(\\w+\\s?)*$",
        "(a|b+)+",
        "((a+)b)+",
        "(?:a+)+?",
        "(a{2,})+",
        "(a+){2,}",
        "(a+){11}",
        "(a{1,11})+",
        "(?=a+)+",
        "(?>a+)*",
        "(a++)*",
        "(x(y(z*)))+",
        "(?i:a+)+",
        "([a-z]+\\.)*com",
    ],
)
def test_unbounded_repetition_inside_another_is_refused(pattern: str) -> None:
    assert "inside another" in refusal(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "a+b+",
        ".*x.*",
        "(ab)+",
        "(a|b)*",
        "(\\d{1,3}\\.){3}\\d{1,3}",
        "([0-9a-f]{20})*",
        "(a?)+",
        "(\\w+\\.){1,3}",
        "^https?://",
        "a{2,5}",
        "(?!x)a*",
        "(?P<n>a)\\1",
        "[(a+)+]+",
        "\\(a+\\)+",
    ],
)
def test_harmless_repetitions_are_allowed(pattern: str) -> None:
    check_pattern(MatchesText(pattern), "a")


@pytest.mark.parametrize(
    "pattern",
    [
        "(",
        ")",
        "[",
        "a{2,1}",
        "*",
        "+a",
        "a**",
        "(?P<n",
        "\\",
        "(?<!a*)b",
        "[z-a]",
        "\\1",
        "(?z)",
        "\\u0041",
        "\\N{DIGIT ONE}",
        "[\\U00000041]",
        "(?P=x)",
        "(a)(?(2)b)",
        "a{99999999999}",
        "a{65536}",
        "[[:nothing:]]",
        "(?u)a",
        "(?L)a",
        "(?a)a",
        "(?x)a",
        "a\x00",
        "\ud800",
        "[a--]",
    ],
)
def test_what_does_not_compile_everywhere_is_refused(pattern: str) -> None:
    refusal(pattern)


def test_no_pattern_makes_the_parser_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for pattern in ("[[a]", "[a&&b]", "[a||b]", "[a~~b]", "[[:alpha:]_]", "[]a]", "[^]a]"):
            check_pattern(MatchesText(pattern), "a")


def test_deep_brackets_are_no_fault_of_ours() -> None:
    check_pattern(MatchesText("(" * 100 + "a" + ")" * 100), "a")


def test_brackets_in_a_comment_are_not_taken_for_a_set() -> None:
    check_pattern(MatchesText("a # [ (\nb", "x"), "a")
    assert "inside another" in refusal("# [\n(a+)+", "x")
