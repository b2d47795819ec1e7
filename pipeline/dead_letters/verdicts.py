"""What becomes of a message whose handling failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from pipeline.errors import Fenced, LostRace, NotFound, PoisonMessage, YardError
from pipeline.topology import StagePlan

POISON_ATTEMPTS = 3
"""An unreadable message gets more than one attempt: while two releases run side by side, the
next worker may be the one that can read it."""

EARLY_ATTEMPTS = 2
"""What a message speaks about may not be there yet: commands that are given together are handled
side by side. One second look; a third only while a creation waits (`DeadLetterWriter.may_come`)."""

RETRY_AFTER_CAP_S = 600

UNEXPECTED = "unexpected_error"
"""Code of everything that was not raised on purpose."""


@dataclass(frozen=True, slots=True)
class Done:
    """Acknowledge it; somebody else did the work."""

    code: str


@dataclass(frozen=True, slots=True)
class Retry:
    """Give it back, to be delivered again after the delay."""

    code: str
    delay_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Move it to the dead letters."""

    code: str


Verdict: TypeAlias = Done | Retry | GiveUp


def is_early(error: Exception, verdict: Verdict, *, attempt: int, plan: StagePlan) -> bool:
    """Would it be tried again if what was not found were still on its way?"""
    is_over = isinstance(verdict, GiveUp) and isinstance(error, NotFound)
    return is_over and attempt < plan.max_deliver


def retry_or_give_up(error: Exception, *, attempt: int, plan: StagePlan, jitter: float) -> Verdict:
    """Decide about the failure of attempt number `attempt` (from 1); `jitter` lies in [0, 1)."""
    code = code_of(error)
    if isinstance(error, LostRace | Fenced):
        return Done(code)
    if attempt >= attempts_allowed(error, plan):
        return GiveUp(code)
    return Retry(code, max(backoff_s(plan, attempt, jitter), _retry_after_s(error)))


def code_of(error: Exception) -> str:
    return error.code if isinstance(error, YardError) else UNEXPECTED


def attempts_allowed(error: Exception, plan: StagePlan) -> int:
    """What nobody foresaw may pass, so it is retried; in the end it is given up like the rest."""
    if isinstance(error, PoisonMessage):
        return min(POISON_ATTEMPTS, plan.max_deliver)
    if isinstance(error, NotFound):
        return min(EARLY_ATTEMPTS, plan.max_deliver)
    if isinstance(error, YardError) and not error.retryable:
        return 1
    return plan.max_deliver


def backoff_s(plan: StagePlan, attempt: int, jitter: float) -> float:
    """Triples with each attempt up to the cap; half of it is jitter."""
    # The exponent is bounded so that a long series cannot overflow.
    full = min(plan.retry_cap_s, plan.retry_base_s * 3.0 ** min(attempt - 1, 32))
    return full * (0.5 + jitter / 2)


def _retry_after_s(error: Exception) -> float:
    """How long the other side asked us to stay away, within reason."""
    asked = error.facts.get("retry_after_s") if isinstance(error, YardError) else None
    if not isinstance(asked, int | float) or isinstance(asked, bool):
        return 0
    return min(max(float(asked), 0), RETRY_AFTER_CAP_S)
