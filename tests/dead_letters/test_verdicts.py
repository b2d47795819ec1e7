"""What becomes of a message whose handling failed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dead_letters.verdicts import (
    EARLY_ATTEMPTS,
    POISON_ATTEMPTS,
    Done,
    GiveUp,
    Retry,
    backoff_s,
    retry_or_give_up,
)
from pipeline.errors import (
    Fenced,
    InvalidInput,
    LostRace,
    NotFound,
    PoisonMessage,
    RegistryUnavailable,
    StoreUnavailable,
    YardError,
    every_error,
)
from pipeline.topology import COMMANDS, StagePlan

PLAN = StagePlan("d", COMMANDS, "s", max_deliver=6, retry_base_s=1, retry_cap_s=60)


def verdict(error: Exception, attempt: int = 1, jitter: float = 0.5) -> Done | Retry | GiveUp:
    return retry_or_give_up(error, attempt=attempt, plan=PLAN, jitter=jitter)


def test_what_somebody_else_did_is_done() -> None:
    assert verdict(LostRace("somebody else")) == Done("lost_race")
    assert verdict(Fenced("a newer launch")) == Done("fenced")


def test_what_cannot_succeed_later_is_given_up_at_once() -> None:
    assert verdict(InvalidInput("no")) == GiveUp("invalid_input")


def test_what_is_not_there_may_not_be_there_yet() -> None:
    assert isinstance(verdict(NotFound("not yet"), EARLY_ATTEMPTS - 1), Retry)
    assert verdict(NotFound("gone"), EARLY_ATTEMPTS) == GiveUp("not_found")


def test_what_may_pass_is_retried_until_the_attempts_are_used_up() -> None:
    for attempt in range(1, 6):
        assert isinstance(verdict(StoreUnavailable("down"), attempt), Retry)
    assert verdict(StoreUnavailable("down"), 6) == GiveUp("store_unavailable")
    assert verdict(StoreUnavailable("down"), 9) == GiveUp("store_unavailable")


def test_what_nobody_foresaw_is_retried_and_then_given_up() -> None:
    assert isinstance(verdict(KeyError("x"), 5), Retry)
    assert verdict(KeyError("x"), 6) == GiveUp("unexpected_error")


def test_an_unreadable_message_is_given_up_after_a_few_attempts() -> None:
    assert isinstance(verdict(PoisonMessage("?"), POISON_ATTEMPTS - 1), Retry)
    assert verdict(PoisonMessage("?"), POISON_ATTEMPTS) == GiveUp("poison_message")


def test_delays_triple_up_to_the_cap() -> None:
    assert [backoff_s(PLAN, attempt, 1) for attempt in range(1, 7)] == [1, 3, 9, 27, 60, 60]


@pytest.mark.parametrize(
    ("asked", "delay_s"), [(7, 7), (7.5, 7.5), (-1, 0.75), (1e9, 600), ("soon", 0.75), (True, 0.75)]
)
def test_the_other_side_may_ask_us_to_stay_away_longer(asked: object, delay_s: float) -> None:
    assert verdict(RegistryUnavailable("busy", retry_after_s=asked)) == Retry(
        "registry_unavailable", delay_s
    )


@given(attempt=st.integers(1, 10**6), jitter=st.floats(0, 1, exclude_max=True))
def test_a_delay_is_never_zero_and_never_above_the_cap(attempt: int, jitter: float) -> None:
    assert PLAN.retry_base_s / 2 <= backoff_s(PLAN, attempt, jitter) <= PLAN.retry_cap_s


@pytest.mark.parametrize("kind", list(every_error()), ids=lambda kind: kind.__name__)
def test_every_error_has_a_verdict_and_no_message_lives_for_ever(kind: type[YardError]) -> None:
    assert verdict(kind("why"), PLAN.max_deliver) in (GiveUp(kind.code), Done(kind.code))
    if not kind.retryable and not issubclass(kind, LostRace | Fenced | PoisonMessage | NotFound):
        assert verdict(kind("why")) == GiveUp(kind.code)
