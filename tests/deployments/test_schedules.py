"""Windows of time, over the changes of the clocks too."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.deployments.schedules import is_open, require_valid
from pipeline.errors import InvalidInput
from schemas.deployment import ScalingSchedule

OFFICE = ScalingSchedule(timezone="Europe/Berlin", start="0 8 * * 1-5", end="0 18 * * 1-5")


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("at", "open"),
    [
        ("2026-01-05T06:59:59", False),  # Monday, an hour behind Berlin
        ("2026-01-05T07:00:00", True),
        ("2026-01-05T16:59:59", True),
        ("2026-01-05T17:00:00", False),
        ("2026-07-06T06:00:00", True),  # summer: two hours behind
        ("2026-07-06T16:00:00", False),
        ("2026-01-10T12:00:00", False),  # Saturday
    ],
)
def test_a_window_follows_the_clock_of_its_time_zone(at: str, open: bool) -> None:
    assert is_open(OFFICE, _at(at)) is open


def test_a_window_may_reach_over_midnight_and_the_weekend() -> None:
    night = ScalingSchedule(timezone="America/New_York", start="0 22 * * 5", end="0 6 * * 1")
    assert [
        is_open(night, _at(at))
        for at in ("2026-01-10T02:59:59", "2026-01-10T03:00:00", "2026-01-12T10:59:59")
    ] == [False, True, True]
    assert not is_open(night, _at("2026-01-12T11:00:00"))


def test_a_start_that_summer_time_leaves_out_comes_right_after_it() -> None:
    early = ScalingSchedule(timezone="Europe/Berlin", start="30 2 * * *", end="0 4 * * *")
    # 2026-03-29, 02:00 becomes 03:00, which is 01:00 UTC.
    assert not is_open(early, _at("2026-03-29T00:59:59"))
    assert is_open(early, _at("2026-03-29T01:00:00"))
    assert not is_open(early, _at("2026-03-29T02:00:00"))


def test_a_start_that_happens_twice_counts_once_and_the_window_is_an_hour_longer() -> None:
    early = ScalingSchedule(timezone="Europe/Berlin", start="30 2 * * *", end="0 4 * * *")
    # 2026-10-25, 03:00 becomes 02:00: from 00:30 UTC to 03:00 UTC.
    assert not is_open(early, _at("2026-10-25T00:29:59"))
    assert is_open(early, _at("2026-10-25T00:30:00"))
    assert is_open(early, _at("2026-10-25T01:15:00"))
    assert is_open(early, _at("2026-10-25T02:59:59"))
    assert not is_open(early, _at("2026-10-25T03:00:00"))


@given(
    st.datetimes(datetime(2025, 1, 1), datetime(2027, 12, 31)),
    st.sampled_from(["UTC", "Asia/Kolkata"]),
)
def test_a_daily_window_of_six_hours_is_open_for_a_quarter_of_any_day(
    start: datetime, zone: str
) -> None:
    daily = ScalingSchedule(timezone=zone, start="0 6 * * *", end="0 12 * * *")
    looks = [start.replace(tzinfo=UTC) + timedelta(minutes=30 * each) for each in range(48)]
    assert sum(is_open(daily, at) for at in looks) == 12


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("timezone", "Mars/Olympus"),
        ("timezone", "../etc/passwd"),
        ("timezone", ""),
        ("start", "61 * * * *"),
        ("start", "* * * * * *"),
        ("end", "0 0 30 2 *"),
        ("end", "@daily"),
        ("end", ""),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_place(field: str, value: str) -> None:
    wrong = OFFICE.model_copy(update={field: value})
    with pytest.raises(InvalidInput) as refused:
        require_valid([OFFICE, wrong])
    assert refused.value.facts["field"] == f"autoscale.schedules.1.{field}"
