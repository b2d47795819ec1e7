import statistics
import time

import pytest

from pipeline.access.passwords import MAX_LENGTH, Passwords
from pipeline.errors import InvalidInput

CHEAP = Passwords(time_cost=1, memory_kib=64, parallelism=1)


def test_the_right_password_matches_and_a_wrong_one_does_not() -> None:
    hashed = CHEAP.hash("open sesame")
    assert CHEAP.matches("open sesame", hashed)
    assert not CHEAP.matches("open sesamf", hashed)
    assert not CHEAP.matches("", hashed)


def test_the_hash_is_argon2id_and_salted() -> None:
    one, other = CHEAP.hash("open sesame"), CHEAP.hash("open sesame")
    assert one.startswith("$argon2id$")
    assert one != other
    assert "sesame" not in one


def test_the_default_parameters_are_those_of_rfc_9106() -> None:
    assert "$m=65536,t=3,p=4$" in Passwords().hash("open sesame")


@pytest.mark.parametrize("password", ["", "1234567", "x" * (MAX_LENGTH + 1)])
def test_a_password_of_bad_length_is_refused(password: str) -> None:
    with pytest.raises(InvalidInput, match="characters") as caught:
        CHEAP.hash(password)
    assert caught.value.facts == {"field": "password"}


def test_nobody_matches_no_password_not_even_the_empty_one() -> None:
    assert not CHEAP.matches("", None)
    assert not CHEAP.matches("open sesame", None)


def test_a_password_beyond_the_cap_never_matches_its_beginning() -> None:
    longest = "x" * MAX_LENGTH
    assert CHEAP.matches(longest, CHEAP.hash(longest))
    assert not CHEAP.matches(longest + "y", CHEAP.hash(longest))


@pytest.mark.parametrize("hashed", ["", "plain", "$argon2id$v=19$broken"])
def test_an_unreadable_hash_matches_nothing(hashed: str) -> None:
    assert not CHEAP.matches("open sesame", hashed)


def test_text_outside_unicode_is_a_wrong_password_not_a_fault() -> None:
    assert not CHEAP.matches("\ud800 sesame", CHEAP.hash("open sesame"))


def test_changed_parameters_keep_old_hashes_valid_and_outdated() -> None:
    old = CHEAP.hash("open sesame")
    newer = Passwords(time_cost=2, memory_kib=64, parallelism=1)
    assert newer.matches("open sesame", old)
    assert newer.is_outdated(old)
    assert not newer.is_outdated(newer.hash("open sesame"))


def test_an_unknown_user_takes_as_long_as_a_known_one() -> None:
    passwords = Passwords(time_cost=1, memory_kib=8192, parallelism=1)
    hashed = passwords.hash("open sesame")

    def seconds(target: str | None) -> float:
        spent = []
        for _ in range(15):
            start = time.process_time()
            passwords.matches("wrong password", target)
            spent.append(time.process_time() - start)
        return statistics.median(spent)

    assert 1 / 3 < seconds(None) / seconds(hashed) < 3
