import os
import random
import socket
import subprocess
from collections.abc import Iterator

import pytest

from pipeline.errors import Misconfigured
from pipeline.stack.processes import probes
from pipeline.stack.processes.probes import Claims
from tests.support.processes import any_free


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", any_free(random.Random())))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_port_that_somebody_listens_on_is_taken(taken: int) -> None:
    assert not probes.is_free(taken)


@pytest.fixture
def claims() -> Iterator[Claims]:
    with Claims() as claims:
        yield claims


def test_a_taken_port_is_an_error_that_names_the_setting(taken: int, claims: Claims) -> None:
    with pytest.raises(Misconfigured, match=f"{taken}.*MODELYARD_NATS_PORT.*--ports auto"):
        claims.choose(taken, setting="MODELYARD_NATS_PORT", auto=False)


def test_auto_takes_the_next_port_that_is_free(taken: int, claims: Claims) -> None:
    chosen = claims.choose(taken, setting="X", auto=True)
    assert chosen > taken
    assert probes.is_free(chosen)
    assert claims.choose(taken, setting="X", auto=True) > chosen


def test_a_free_port_is_taken_as_wished(claims: Claims) -> None:
    wished = any_free(random.Random())
    assert claims.choose(wished, setting="X", auto=False) == wished


def test_what_one_stack_is_about_to_use_no_other_takes(claims: Claims) -> None:
    wished = any_free(random.Random())
    with Claims() as others:
        assert others.choose(wished, setting="X", auto=False) == wished
        with pytest.raises(Misconfigured, match=str(wished)):
            claims.choose(wished, setting="X", auto=False)
    assert claims.choose(wished, setting="X", auto=False) == wished


def test_a_port_is_told_from_one_that_somebody_else_listens_on(taken: int) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        assert probes.listens(os.getpid(), taken)
        assert not probes.listens(other.pid, taken)
        other.kill()
    assert not probes.listens(other.pid, taken)
    assert not probes.listens(os.getpid(), any_free(random.Random()))
