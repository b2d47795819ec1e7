"""Times as an engine writes them: RFC 3339 with up to nine digits after the second."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_ns(text: str) -> int | None:
    """Nanoseconds since 1970, or None when `text` is no such time."""
    found = _RFC3339.match(text)
    if not found:
        return None
    seconds, fraction, zone = found.groups()
    whole = datetime.fromisoformat(seconds + ("+00:00" if zone == "Z" else zone))
    return (whole - _EPOCH) // timedelta(seconds=1) * 10**9 + int((fraction or "").ljust(9, "0"))


def at(time_ns: int) -> datetime:
    """UTC, cut to whole microseconds."""
    return _EPOCH + timedelta(microseconds=time_ns // 1000)


def parse_moment(text: str | None) -> datetime | None:
    """None for a missing time and for Go's zero time, year 1."""
    time_ns = parse_ns(text or "")
    return None if time_ns is None or time_ns < 0 else at(time_ns)


def written(moment: datetime) -> str:
    """The form that `since` parameters take: `seconds.nanoseconds`, exact."""
    micros = (moment - _EPOCH) // timedelta(microseconds=1)
    return f"{micros // 10**6}.{micros % 10**6:06d}000"
