from __future__ import annotations

import pytest

from pipeline.errors import InvalidInput
from pipeline.rules.model_requirements import GIB, LISTED, find


def test_the_first_is_what_a_version_has_when_it_asks_for_nothing() -> None:
    assert (find(1).cpus, find(1).memory_bytes, find(1).gpus) == (1, GIB, 0)


def test_those_that_clients_know_by_heart_are_not_in_the_list() -> None:
    """A program that chooses by size would find a GPU where it asked for none."""
    assert find(-6).gpus == 1
    assert find(-99).gpus == 0
    assert all(each.id > 0 and not each.gpus for each in LISTED)


def test_an_unknown_one_is_refused() -> None:
    with pytest.raises(InvalidInput, match="12345"):
        find(12345)
