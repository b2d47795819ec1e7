"""How far a load test is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.models.jobs import trials
from pipeline.models.jobs.trials import CHECKING, LOADING
from schemas.base import Progress
from schemas.container import Container
from schemas.states import ContainerStatus as Status
from tests.support.records import AT, container


def at(status: Status, *, pulled: int = 0, started: bool = False) -> Container:
    return container(
        status=status, progress=Progress(percentage=pulled), started_at=AT if started else None
    )


@pytest.mark.parametrize(
    ("shown", "percentage"),
    [
        (None, 33),
        (at(Status.REQUESTED), 33),
        (at(Status.PLACED), 33),
        (at(Status.PULLING), 33),
        (at(Status.PULLING, pulled=50), 49),
        (at(Status.PULLING, pulled=100), 65),
        (at(Status.CREATED), 65),
        (at(Status.RUNNING, started=True), 65),
        (at(Status.FAILED, started=True), 65),
    ],
)
def test_until_it_runs_the_image_is_what_is_waited_for(
    shown: Container | None, percentage: int
) -> None:
    assert trials.progress(shown, None) == (LOADING, percentage)


@pytest.mark.parametrize(
    ("waited", "percentage"), [(-1.0, 66), (0.0, 66), (0.5, 82), (1.0, 99), (7.0, 99)]
)
def test_while_it_is_asked_the_timeout_is_what_is_used_up(waited: float, percentage: int) -> None:
    running = at(Status.RUNNING, started=True)
    assert trials.progress(running, waited) == (CHECKING, percentage)


@given(st.lists(st.integers(0, 100)), st.lists(st.floats(0, 2)))
def test_it_never_falls_and_never_is_done(pulled: list[int], waited: list[float]) -> None:
    shares = [trials.progress(at(Status.PULLING, pulled=one), None) for one in sorted(pulled)]
    running = at(Status.RUNNING, started=True)
    shares += [trials.progress(running, share) for share in sorted(waited)]
    assert shares == sorted(shares)
    assert all(percentage < 100 for _, percentage in shares)
