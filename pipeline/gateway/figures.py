"""What HAProxy counts, by deployment. Pure."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx", "other")


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one deployment on one gateway, with what goes on on connections from before a reload."""

    under_way: int
    """Calls at replicas, and those that wait for one."""
    queued: int
    """Of these, those that wait."""
    requests: int
    """All since HAProxy has its configuration: a reload begins at 0."""
    idle_for_s: int | None
    """Since the last call began; None when there was none."""
    answers: Mapping[str, int] = field(default_factory=dict)
    """How many of each class (`2xx`), as `requests`; `other` are no HTTP status."""

    @property
    def is_idle(self) -> bool:
        """Nothing goes on."""
        return self.under_way == 0


def figures_of(statistics: Iterable[str]) -> dict[str, Figures]:
    """By slug. `statistics` is `show stat` of each process, the newest one first.

    https://docs.haproxy.org/2.6/management.html (9.1, "CSV format").
    """
    found: dict[str, Figures] = {}
    for text in statistics:
        for row in csv.DictReader(text.removeprefix("# ").splitlines()):
            if row["svname"] == "BACKEND" and row["pxname"].startswith("d_"):
                slug = row["pxname"].removeprefix("d_")
                found[slug] = _joined(found.get(slug), _figures(row))
    return found


def _figures(row: Mapping[str, str]) -> Figures:
    since = int(row["lastsess"])
    return Figures(
        under_way=int(row["scur"]),
        queued=int(row["qcur"]),
        requests=int(row["req_tot"]),
        idle_for_s=None if since < 0 else since,
        answers={each: count for each in CLASSES if (count := int(row.get(f"hrsp_{each}") or 0))},
    )


def _joined(newer: Figures | None, older: Figures) -> Figures:
    if newer is None:
        return older
    since = [each for each in (newer.idle_for_s, older.idle_for_s) if each is not None]
    return Figures(
        under_way=newer.under_way + older.under_way,
        queued=newer.queued + older.queued,
        requests=newer.requests,
        idle_for_s=min(since, default=None),
        answers=newer.answers,
    )
