"""The order in which containers that wait are placed."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pipeline.placement.turns import Turn, heads, in_order
from tests.support.records import AT, after

PATIENCE_S = 60


def turn(
    name: str, org: str = "a", *, waited_s: float = 0, priority: int = 0, gpus: int = 1
) -> Turn:
    return Turn(name, org, priority, after(-waited_s), gpus)


def names(*waiting: Turn, **held: int) -> str:
    ordered = in_order(waiting, lambda org: held.get(org, 0), now=AT, patience_s=PATIENCE_S)
    return "".join(each.uuid for each in ordered)


def test_the_higher_priority_goes_first_and_then_who_has_waited_longer() -> None:
    waiting = (turn("1", waited_s=1), turn("2", waited_s=2), turn("3", priority=1))
    assert names(*waiting, turn("4", priority=-1, waited_s=1000)) == "3214"


def test_organisations_take_turns_and_who_holds_less_goes_first() -> None:
    many = [turn(name, waited_s=9 - n) for n, name in enumerate("123")]
    late = [turn(name, "b") for name in "xy"]
    assert names(*many, *late) == "1x2y3"
    assert names(*many, *late, a=2) == "xy123"
    assert names(*many, turn("z", "b", gpus=0), turn("y", "b", gpus=0), a=1) == "yz123"


def test_one_of_each_organisation_goes_first_when_its_patience_is_at_an_end() -> None:
    flood = [turn(name, waited_s=100 - n) for n, name in enumerate("123")]
    other = [turn("x", "b", waited_s=70), turn("y", "b"), turn("z", "c")]
    assert names(*flood, *other, b=8) == "1xz23y"
    assert names(*flood, turn("z", "c", priority=1)) == "z123"


turns = st.builds(
    Turn,
    uuid=st.uuids().map(str),
    org=st.sampled_from("abc"),
    priority=st.integers(-1, 1),
    since=st.integers(0, 120).map(lambda seconds: after(-seconds)),
    gpus=st.integers(0, 8),
)
shares = st.dictionaries(st.sampled_from("abc"), st.integers(0, 20)).map(Counter)


@given(st.lists(turns, max_size=12, unique_by=lambda each: each.uuid), shares, st.randoms())
def test_everybody_has_one_place_whatever_order_they_came_in(
    waiting: list[Turn], share: Counter[str], rng: random.Random
) -> None:
    def ordered(given: list[Turn]) -> list[Turn]:
        return in_order(given, share.__getitem__, now=AT, patience_s=PATIENCE_S)

    order = ordered(waiting)
    assert order == ordered(rng.sample(waiting, len(waiting)))
    assert sorted(order, key=id) == sorted(waiting, key=id)
    assert [each.priority for each in order] == sorted(
        (each.priority for each in waiting), reverse=True
    )
    for one, other in [(one, other) for n, one in enumerate(order) for other in order[n + 1 :]]:
        if (one.org, one.priority) == (other.org, other.priority):
            assert (one.since, one.uuid) < (other.since, other.uuid)
    first = heads(order, now=AT, patience_s=PATIENCE_S)
    for one, other in [(one, other) for n, one in enumerate(order) for other in order[:n]]:
        if one.uuid in first and other.priority == one.priority:
            assert other.uuid in first, "nobody goes before one whose patience is at an end"
