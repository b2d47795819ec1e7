"""In which order containers that wait are placed: by priority, fair between organisations."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

_EACH: Final = 0.01
"""What one container counts beside its GPUs, so that those without any take turns, too."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One that waits. `since`: when it was requested, or lost its node."""

    uuid: str
    org: str
    priority: int
    since: datetime
    gpus: int


def in_order(
    waiting: Iterable[Turn], share: Callable[[str], float], *, now: datetime, patience_s: float
) -> list[Turn]:
    """Who is placed first, next, …; the same input gives the same order.

    The higher priority first. Within one, those first whose patience is at an end: of each
    organisation the one that has waited longest, if for so long (`is_at_end`), by age, so that
    many of one organisation gain nothing by it. Then the organisation that holds fewest GPUs
    (`share`), with what comes before in this order counted as if it had it; of its own the oldest.
    """
    by_priority: dict[int, dict[str, list[Turn]]] = defaultdict(lambda: defaultdict(list))
    for turn in waiting:
        by_priority[turn.priority][turn.org].append(turn)
    ordered: list[Turn] = []
    held: dict[str, float] = {}
    for priority in sorted(by_priority, reverse=True):
        lines = {
            org: sorted(turns, key=_age, reverse=True)
            for org, turns in by_priority[priority].items()
        }
        ended = [line[-1] for line in lines.values() if is_at_end(line[-1], now, patience_s)]
        for turn in sorted(ended, key=_age):
            ordered.append(lines[turn.org].pop())
            _take(held, turn, share)
        ordered += _fair(lines, held, share)
    return ordered


def is_at_end(turn: Turn, now: datetime, patience_s: float) -> bool:
    """Whether it has waited so long that what it waits for is kept for it."""
    return (now - turn.since).total_seconds() >= patience_s


def heads(ordered: Sequence[Turn], *, now: datetime, patience_s: float) -> set[str]:
    """For whom a node may be kept: of each organisation and priority the one that has waited
    longest, once its patience is at an end."""
    oldest: dict[tuple[int, str], Turn] = {}
    for turn in ordered:
        key = (turn.priority, turn.org)
        oldest[key] = min(oldest.get(key, turn), turn, key=_age)
    return {turn.uuid for turn in oldest.values() if is_at_end(turn, now, patience_s)}


def _fair(
    lines: dict[str, list[Turn]], held: dict[str, float], share: Callable[[str], float]
) -> Iterable[Turn]:
    queue = [
        (held.get(org, share(org)), _age(line[-1]), org) for org, line in lines.items() if line
    ]
    heapq.heapify(queue)
    while queue:
        _, _, org = heapq.heappop(queue)
        turn = lines[org].pop()
        yield turn
        _take(held, turn, share)
        if lines[org]:
            heapq.heappush(queue, (held[org], _age(lines[org][-1]), org))


def _take(held: dict[str, float], turn: Turn, share: Callable[[str], float]) -> None:
    held[turn.org] = held.get(turn.org, share(turn.org)) + turn.gpus + _EACH


def _age(turn: Turn) -> tuple[datetime, str]:
    return turn.since, turn.uuid
