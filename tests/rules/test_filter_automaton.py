import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InvalidInput
from pipeline.rules.filter_automaton import Automaton
from pipeline.rules.filter_effort import Effort
from pipeline.rules.filter_tree import MatchesText


def finds(pattern: str, text: str, options: str = "", effort: int = 1_000_000) -> bool:
    return Automaton(MatchesText(pattern, options), "a").finds(text, Effort(effort))


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
        Automaton(MatchesText("(a{1000}){10}"), "a")


@pytest.mark.parametrize("pattern", ["(a)\\1", "(?=a)", "(?<!a)b", "(?>a)", "a++", "(a)(?(1)b|c)"])
def test_what_needs_backtracking_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be used here"):
        Automaton(MatchesText(pattern), "a")


def test_an_empty_loop_ends() -> None:
    assert finds("(?:a?)*b", "aab")
    assert finds("(?:)*", "")
