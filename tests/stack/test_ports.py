import random
import socket
from collections.abc import Iterator

import pytest

from pipeline.errors import Misconfigured
from pipeline.stack import ports


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", ports.any_free(random.Random())))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_port_that_somebody_listens_on_is_taken(taken: int) -> None:
    assert not ports.is_free(taken)


def test_a_taken_port_is_an_error_that_names_the_setting(taken: int) -> None:
    with pytest.raises(Misconfigured, match=f"{taken}.*MODELYARD_NATS_PORT.*--ports auto"):
        ports.choose(taken, setting="MODELYARD_NATS_PORT", auto=False)


def test_auto_takes_the_next_port_that_is_free_and_not_promised(taken: int) -> None:
    chosen = ports.choose(taken, setting="X", auto=True, taken=frozenset({taken + 1}))
    assert chosen > taken + 1
    assert ports.is_free(chosen)


def test_a_free_port_is_taken_as_wished() -> None:
    wished = ports.any_free(random.Random())
    assert ports.choose(wished, setting="X", auto=False) == wished
