"""When a registry is looked at again."""

from __future__ import annotations

from typing import Final

SPREAD: Final = 0.2
"""Of the wait, to both sides: registries that were entered together drift apart."""


def next_check_s(failures: int, *, every_s: float, cap_s: float, jitter: float) -> float:
    """Doubles with each failure in a row, up to `cap_s`; `jitter` lies in [0, 1)."""
    # The exponent is bounded so that a long series cannot overflow.
    full = min(every_s * 2.0 ** min(failures, 32), max(cap_s, every_s))
    return full * (1 - SPREAD + 2 * SPREAD * jitter)
