from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pipeline.adapters import engine_times as times


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000_000),
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("1970-01-01T02:00:00.123456789+02:00", 123_456_789),
        ("2024-02-29T12:00:00.25Z", 1_709_208_000_250_000_000),
    ],
)
def test_every_digit_of_a_time_is_kept(text: str, time_ns: int) -> None:
    assert times.parse_ns(text) == time_ns


@pytest.mark.parametrize("text", ["", "hello", "2024-02-29", "2024-02-29T12:00:00", "1709208000"])
def test_other_words_are_no_time(text: str) -> None:
    assert times.parse_ns(text) is None


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00Z", "", None])
def test_no_moment_is_none(text: str | None) -> None:
    assert times.parse_moment(text) is None


def test_a_moment_is_utc_in_microseconds() -> None:
    moment = times.parse_moment("2024-02-29T12:00:00.123456789Z")
    assert moment == datetime(2024, 2, 29, 12, 0, 0, 123456, tzinfo=UTC)


def test_a_moment_is_written_without_rounding() -> None:
    assert times.written(datetime(2024, 2, 29, 12, 0, 0, 7, tzinfo=UTC)) == "1709208000.000007000"
