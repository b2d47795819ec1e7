from datetime import UTC, datetime, timedelta

import pytest

from pipeline.errors import TooManyRequests
from pipeline.rules.attempts import Attempts

NOW = datetime(2024, 5, 1, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def test_the_limit_itself_is_allowed_and_the_next_attempt_is_not() -> None:
    attempts = Attempts(30)
    for second in range(30):
        attempts.take("ada", after(second))
    with pytest.raises(TooManyRequests) as caught:
        attempts.take("ada", after(30))
    assert caught.value.facts == {"retry_after_s": 30}


def test_after_the_named_wait_one_more_is_allowed() -> None:
    attempts = Attempts(2)
    attempts.take("ada", after(0))
    attempts.take("ada", after(20))
    with pytest.raises(TooManyRequests):
        attempts.take("ada", after(59))
    attempts.take("ada", after(60))
    with pytest.raises(TooManyRequests):
        attempts.take("ada", after(61))


def test_keys_do_not_share_their_count() -> None:
    attempts = Attempts(1)
    attempts.take(("acme", "ada", "10.0.0.1"), NOW)
    attempts.take(("acme", "ada", "10.0.0.2"), NOW)
    attempts.take(("other", "ada", "10.0.0.1"), NOW)


def test_success_wipes_the_slate() -> None:
    attempts = Attempts(1)
    attempts.take("ada", NOW)
    attempts.forgive("ada")
    attempts.take("ada", NOW)


def test_a_clock_that_steps_back_locks_nobody_out() -> None:
    attempts = Attempts(1)
    attempts.take("ada", after(3600))
    attempts.take("ada", NOW)


def test_memory_is_bounded_and_the_longest_unused_key_goes_first() -> None:
    attempts = Attempts(1, keys=2)
    for key in ("a", "b", "c"):
        attempts.take(key, NOW)
    attempts.take("a", NOW)
    with pytest.raises(TooManyRequests):
        attempts.take("c", NOW)
