"""What the figures of a gateway come to over the last seconds. Pure.

HAProxy 2.6 tells averages of times alone, so it counts for those who want percentiles how long its
answers took, in the buckets of a stick table: exact below 64 ms, within an eighth above.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, Final

from pipeline.gateway.figures import Figures

WINDOW_S: Final = 15.0
LATENCY_WINDOW_S: Final = 60.0
FINEST_MS: Final = 64
LONGEST_MS: Final = 2**18
"""What takes longer counts as this."""
_WIDTHS: Final = {0: 1, FINEST_MS: 8, 512: 64, 4096: 512, 32768: 4096}
"""From so many milliseconds on buckets are so wide."""
_ROW: Final = re.compile(r"key=(\d+) .*gpc0=(\d+)")

Latencies = Mapping[int, int]
"""Answers by the lower bound of their bucket, in milliseconds."""


def bucket_rules(table: str) -> str:
    """For the backend whose answers are to be counted in `table`.

    From the arrival at the backend, with the time in its queue, to the head of the replica's
    answer. What HAProxy answers itself is not counted.
    """
    took = "var(txn.took)"
    wide = "".join(
        f"    http-response set-var(txn.bucket) {took},div({width}),mul({width})"
        f" if {{ {took} -m int ge {least} }}\n"
        for least, width in _WIDTHS.items()
        if least
    )
    return f"""\
    http-request set-var(txn.began) date(0,ms)
    http-response set-var(txn.took) date(0,ms),sub(txn.began)
    http-response set-var(txn.bucket) {took}
{wide}\
    http-response set-var(txn.bucket) int({LONGEST_MS}) if {{ {took} -m int ge {LONGEST_MS} }}
    http-response set-var(txn.bucket) int(0) if {{ {took} -m int lt 0 }}
    http-response track-sc0 var(txn.bucket) table {table}
    http-response sc-inc-gpc0(0)
"""


def buckets_of(table: str) -> Latencies:
    """What `show table` says."""
    return {int(bucket): int(count) for bucket, count in _ROW.findall(table)}


def latency_ms(latencies: Latencies, percentile: int | None) -> float | None:
    """Of these answers, or their mean; None of none. Evenly spread within a bucket."""
    total = sum(latencies.values())
    if not total:
        return None
    if percentile is None:
        return (
            sum((least + _width(least) / 2) * count for least, count in latencies.items()) / total
        )
    rank = total * percentile / 100
    for least, count in sorted(latencies.items()):
        if count >= rank:
            return least + _width(least) * rank / count
        rank -= count
    return None


def _width(least: int) -> int:
    return next(width for bound, width in reversed(_WIDTHS.items()) if least >= bound)


class Meter:
    """Means over the last `WINDOW_S`; latencies of the last `LATENCY_WINDOW_S`."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, Mapping[str, Figures]]] = deque()
        self._answered: deque[tuple[float, Mapping[str, Latencies]]] = deque()
        self._counted: Mapping[str, Latencies] = {}

    def add(
        self, at_s: float, figures: Mapping[str, Figures], latencies: Mapping[str, Latencies]
    ) -> None:
        """What HAProxy says at this moment, by slug. `latencies` since its last reload."""
        if self._seen:
            self._answered.append((at_s, _increments(self._counted, latencies)))
        self._counted = latencies
        self._seen.append((at_s, figures))
        while at_s - self._seen[0][0] > WINDOW_S:
            self._seen.popleft()
        while self._answered and at_s - self._answered[0][0] > LATENCY_WINDOW_S:
            self._answered.popleft()

    def means(self) -> dict[str, dict[str, Any]] | None:
        """By slug, of those that are called; None until there are two moments to compare.

        `under_way` and `queued` calls, `rate` in calls per second, `latencies` as pairs of bucket
        and count.
        """
        if len(self._seen) < 2:
            return None
        slugs = {slug for _, figures in self._seen for slug in figures}
        found = {slug: self._means_of(slug) for slug in slugs}
        return {slug: each for slug, each in found.items() if any(each.values())}

    def _means_of(self, slug: str) -> dict[str, Any]:
        moments = [figures.get(slug) for _, figures in self._seen]
        known = [each for each in moments if each is not None]
        took_s = self._seen[-1][0] - self._seen[0][0]
        answered: Counter[int] = Counter()
        for _, latencies in self._answered:
            answered.update(latencies.get(slug, {}))
        return {
            "under_way": sum(each.under_way for each in known) / len(moments),
            "queued": sum(each.queued for each in known) / len(moments),
            "rate": _grown(each.requests if each else 0 for each in moments) / took_s,
            "latencies": sorted(map(list, answered.items())),
        }


def _grown(counts: Iterable[int]) -> int:
    """By how much a counter grew that may begin anew in between."""
    return sum(after - before if after >= before else after for before, after in pairwise(counts))


def _increments(
    before: Mapping[str, Latencies], after: Mapping[str, Latencies]
) -> dict[str, Latencies]:
    return {
        slug: {
            bucket: grown
            for bucket, count in latencies.items()
            if (grown := _grown((before.get(slug, {}).get(bucket, 0), count)))
        }
        for slug, latencies in after.items()
    }
