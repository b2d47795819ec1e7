"""Guessing passwords, with several processes and addresses, on a real store."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.access.sessions import LoginThrottle, network
from pipeline.adapters.store.store import Store
from pipeline.adapters.store.windows import COLLECTION, Windows
from pipeline.errors import TooManyRequests
from tests.support.access import Clock

HOME, AWAY = "10.0.0.1", "10.9.9.9"


@pytest.fixture
async def throttle(store: Store, clock: Clock) -> LoginThrottle:
    windows = Windows(store)
    await windows.prepare()
    return LoginThrottle(windows, clock, per_account=3, per_address=5)


@pytest.fixture
def other_process(store: Store, clock: Clock) -> LoginThrottle:
    return LoginThrottle(Windows(store), clock, per_account=3, per_address=5)


async def fail(throttle: LoginThrottle, name: str = "ada", address: str = HOME) -> None:
    await throttle.take("acme", name, address)


async def wait_of(throttle: LoginThrottle, name: str = "ada", address: str = HOME) -> float:
    with pytest.raises(TooManyRequests) as caught:
        await throttle.take("acme", name, address)
    return float(caught.value.facts["retry_after_s"])


async def test_failures_at_an_account_count_from_wherever_they_come(
    throttle: LoginThrottle,
) -> None:
    for last in range(3):
        await fail(throttle, address=f"10.1.1.{last}")
    assert await wait_of(throttle, address="10.1.1.9") == 60
    await throttle.take("other", "ada", "10.1.1.9")


async def test_processes_count_together(
    throttle: LoginThrottle, other_process: LoginThrottle
) -> None:
    await fail(throttle)
    await fail(other_process)
    await fail(throttle)
    assert await wait_of(other_process) == 60


async def test_attempts_side_by_side_do_not_pass_the_limit(
    throttle: LoginThrottle, other_process: LoginThrottle
) -> None:
    tried = (fail(each) for each in [throttle, other_process] * 10)
    outcomes = await asyncio.gather(*tried, return_exceptions=True)
    assert [type(each) for each in outcomes].count(TooManyRequests) == 20 - 3
    assert outcomes.count(None) == 3


async def test_one_address_tries_few_accounts(throttle: LoginThrottle) -> None:
    for number in range(5):
        await fail(throttle, name=f"user-{number}")
    assert await wait_of(throttle, name="user-5") == 60
    await fail(throttle, name="user-5", address=AWAY)


async def test_a_login_of_his_own_gives_a_guesser_no_more_guesses(throttle: LoginThrottle) -> None:
    for number in range(5):
        await fail(throttle, name=f"user-{number}")
        if number < 4:
            await throttle.forgive(await throttle.take("acme", "mallory", HOME))
    await wait_of(throttle, name="user-6")


async def test_strangers_do_not_lock_the_owner_out_of_his_own_place(
    throttle: LoginThrottle,
) -> None:
    await throttle.forgive(await throttle.take("acme", "ada", HOME))
    for _ in range(3):
        await fail(throttle, address=AWAY)
    await wait_of(throttle, address=AWAY)
    for _ in range(3):
        await fail(throttle, address=HOME)
    await wait_of(throttle, address=HOME)


async def test_an_attempt_that_was_refused_is_counted_nowhere(throttle: LoginThrottle) -> None:
    for _ in range(3):
        await fail(throttle)
    for _ in range(10):
        await wait_of(throttle)
    await fail(throttle, name="eve")
    await fail(throttle, name="bob")


async def test_after_the_named_wait_one_more_is_allowed(
    throttle: LoginThrottle, clock: Clock
) -> None:
    for _ in range(3):
        await fail(throttle)
        clock.advance(10)
    assert await wait_of(throttle) == 30
    clock.advance(30)
    await fail(throttle)
    await wait_of(throttle)


async def test_a_clock_that_steps_far_back_locks_nobody_out(
    throttle: LoginThrottle, clock: Clock
) -> None:
    for _ in range(3):
        await fail(throttle)
    clock.advance(-3600)
    await fail(throttle)


async def test_nothing_is_kept_in_clear_nor_for_ever(throttle: LoginThrottle, store: Store) -> None:
    await throttle.forgive(await throttle.take("acme", "my password", HOME))
    kept = await Windows(store)._collection.find().to_list(None)
    assert len(kept) == 3
    assert "my password" not in str(kept)
    assert HOME not in str(kept)
    assert all("expires_at" in each for each in kept)
    known = await store.beside(COLLECTION).index_information()
    assert known["expiry"]["expireAfterSeconds"] == 0


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_an_address_counts_as_what_one_caller_has(address: str, counted: str) -> None:
    assert network(address) == counted
