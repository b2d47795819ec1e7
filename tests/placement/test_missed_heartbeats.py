from __future__ import annotations

from pipeline.placement.missed_heartbeats import MissedHeartbeats
from tests.support.records import after

ONE = {"one": after(0)}


def looked(*moments: float, beats: dict[float, float] | None = None) -> list[bool]:
    """Whether the node was found silent, look by look; `beats`: moment → heartbeat seen then."""
    heartbeats = MissedHeartbeats(grace_s=20, blind_s=15)
    seen, found = ONE, []
    for moment in moments:
        if beats and moment in beats:
            seen = {"one": after(beats[moment])}
        found.append(bool(heartbeats.silent(seen, after(moment))))
        heartbeats.looked(after(moment))
    return found


def test_a_heartbeat_that_stands_still_for_the_grace_is_silence() -> None:
    assert looked(0, 5, 10, 15, 20, 25) == [False, False, False, False, True, True]


def test_a_new_heartbeat_begins_anew_whatever_time_it_tells() -> None:
    beats = {15.0: -3600.0}
    assert looked(0, 5, 10, 15, 20, 25, 30, 35, beats=beats) == [*[False] * 7, True]


def test_who_could_not_look_has_seen_no_silence() -> None:
    assert looked(0, 5, 10, 26, 31, 36, 41, 46) == [*[False] * 7, True]


def test_a_clock_that_is_set_back_makes_nobody_silent() -> None:
    assert looked(100, 105, 50, 55, 60, 65, 70) == [*[False] * 6, True]


def test_what_was_forgotten_counts_no_more() -> None:
    heartbeats = MissedHeartbeats(grace_s=20, blind_s=15)
    for moment in (0, 5, 10, 15):
        heartbeats.silent(ONE, after(moment))
        heartbeats.looked(after(moment))
    heartbeats.forget()
    assert not heartbeats.silent(ONE, after(20))


def test_nodes_that_are_no_more_are_forgotten() -> None:
    heartbeats = MissedHeartbeats(grace_s=20, blind_s=15)
    heartbeats.silent(ONE, after(0))
    heartbeats.looked(after(0))
    heartbeats.silent({}, after(5))
    assert not heartbeats._heard
