import re
import time
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InvalidInput
from pipeline.mongo_language.patterns import TextSearch, check_pattern
from pipeline.mongo_language.tree import Effort, MatchesText


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


def finds(pattern: str, text: str, options: str = "", effort: int = 1_000_000) -> bool:
    return TextSearch(MatchesText(pattern, options), "a").finds(text, Effort(effort))


PIECES = ["a", "b", ".", "[ab]", "[^a]", "(?:a|bb)", "a*", "b+?", "a?", "(ab){2}", "^", "$", "\\b"]
PIECES += ["\\w", "\\D", "\\s", "b{1,2}", "(?i:A)", "|", "(?:)"]


@given(
    st.lists(st.sampled_from(PIECES), max_size=6).map("".join),
    st.text(alphabet="abAB1 \n", max_size=6),
    st.sets(st.sampled_from("ims")).map(sorted).map("".join),
)
def test_it_finds_what_backtracking_finds(pattern: str, text: str, options: str) -> None:
    flags = re.ASCII
    for option in options:
        flags |= {"i": re.I, "m": re.M, "s": re.S}[option]
    # PCRE does not see a line begin behind the last newline of a text; Python does.
    compared = text.rstrip("\n")
    expected = re.search(pattern, compared, flags) is not None
    assert finds(pattern, compared, options) is expected


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("(a|a)*b", "a" * 3000),
        ("(a|ab|b)*c", "ab" * 1500),
        ("a?" * 25 + "a" * 25 + "b", "a" * 3000),
        (".*.*.*.*x", "a" * 3000),
        ("(.*)(.*)(.*)(.*)(.*)x", "a" * 3000),
    ],
)
def test_what_makes_backtracking_explode_is_done_at_once(pattern: str, text: str) -> None:
    start = time.perf_counter()
    assert finds(pattern, text) is False
    assert time.perf_counter() - start < 5


def test_effort_is_bounded() -> None:
    with pytest.raises(InvalidInput, match="takes too long"):
        finds("(a|b)*c", "ab" * 1000, effort=1000)


def test_an_expression_that_unfolds_too_far_is_refused() -> None:
    with pytest.raises(InvalidInput, match="too large"):
        TextSearch(MatchesText("(a{1000}){10}"), "a")


@pytest.mark.parametrize("pattern", ["(a)\\1", "(?=a)", "(?<!a)b", "(?>a)", "a++", "(a)(?(1)b|c)"])
def test_what_needs_backtracking_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be used here"):
        TextSearch(MatchesText(pattern), "a")


def test_an_empty_loop_ends() -> None:
    assert finds("(?:a?)*b", "aab")
    assert finds("(?:)*", "")


@pytest.mark.parametrize(
    ("pattern", "options", "text", "is_found"),
    [
        ("a$", "", "a\n", True),
        ("a\\Z", "", "a\n", True),
        ("a$", "", "a\nb", False),
        ("a$", "m", "a\nb", True),
        ("a\n$", "", "a\n", True),
        ("^b", "m", "a\nb", True),
        ("[\\s]", "", "\v", True),
        ("[^\\S]", "", "\v", True),
        ("[^ab]", "i", "A", False),
        ("a b # c", "x", "ab", True),
    ],
)
def test_ends_and_classes_are_those_of_the_store(
    pattern: str, options: str, text: str, is_found: bool
) -> None:
    assert finds(pattern, text, options) is is_found


@pytest.mark.parametrize(("pattern", "options"), [("a$\n", ""), ("(a$)*", ""), ("\n^", "m")])
def test_what_depends_on_a_last_newline_is_refused_there(pattern: str, options: str) -> None:
    finds(pattern, "a", options)
    with pytest.raises(InvalidInput, match="ends in a newline"):
        finds(pattern, "a\n", options)
