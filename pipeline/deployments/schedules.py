"""Windows of time in which a deployment has at least so many replicas: pure.

A window goes from each `start` to the next `end`, in local time: a start that the change to summer
time leaves out comes right after it, one that happens twice counts once.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from pipeline.errors import InvalidInput
from schemas.deployment import ScalingSchedule

FIELDS: Final = 5
LONGEST_CHANGE: Final = timedelta(hours=3)
"""Of the clocks at once; with time to spare."""
ANY_TIME: Final = datetime(2000, 1, 1)


def require_valid(schedules: Iterable[ScalingSchedule]) -> None:
    """Raises InvalidInput for an unknown time zone or a cron expression that cannot be read."""
    for number, schedule in enumerate(schedules):
        where = f"autoscale.schedules.{number}"
        _zone(schedule.timezone, f"{where}.timezone")
        for name in ("start", "end"):
            _require_cron(getattr(schedule, name), f"{where}.{name}")


def is_open(schedule: ScalingSchedule, now: datetime) -> bool:
    """The next end comes before the next start. Begins with its start, is over with its end.

    Raises InvalidInput for a time zone that this machine does not know.
    """
    zone = _zone(schedule.timezone, "autoscale.schedules")
    return _next(schedule.end, zone, now) < _next(schedule.start, zone, now)


def _zone(name: str, field: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidInput(
            f"{name!r} is no time zone of the IANA database: write it like Europe/Berlin.",
            field=field,
        ) from None


def _next(expression: str, zone: ZoneInfo, now: datetime) -> datetime:
    # From before a change of the clocks on: who begins in the hour that comes twice sees it anew.
    times = CronSim(expression, (now - LONGEST_CHANGE).astimezone(zone))
    # In UTC, because two times of one zone are compared by the hands of the clock.
    return next(at for at in (each.astimezone(UTC) for each in times) if at > now)


def _require_cron(expression: str, field: str) -> None:
    try:
        if len(expression.split()) != FIELDS:
            raise CronSimError(f"it needs {FIELDS} fields")
        next(CronSim(expression, ANY_TIME))
    except StopIteration:
        raise InvalidInput(
            f"The cron expression {expression!r} never comes.", field=field
        ) from None
    except CronSimError as error:
        raise InvalidInput(
            f"{expression!r} is no cron expression like '0 8 * * 1-5': {error}.", field=field
        ) from None
