from __future__ import annotations

import pytest

from pipeline.placement.sweeps import is_stale
from schemas.node import Lease
from schemas.states import ContainerStatus as Status
from tests.support.records import after, container

LEASE = Lease(container="c", fence=3, gpus=["g"])
BEFORE = after(60)
HERE = {"node": "n1", "fence": 3}


@pytest.mark.parametrize(
    ("status", "values", "free"),
    [
        (Status.RUNNING, HERE, False),
        (Status.PLACED, HERE, False),
        (Status.LOST, HERE, False),
        (Status.STOPPED, HERE, True),
        (Status.FAILED, HERE, True),
        (Status.DELETED, HERE, True),
        (Status.RUNNING, HERE | {"node": "n2"}, True),
        (Status.RUNNING, HERE | {"fence": 4}, True),
        (Status.REQUESTED, {"node": None, "fence": 3}, False),
        (Status.REQUESTED, {"node": None, "fence": 4}, True),
        (Status.FAILED, HERE | {"fence": 2}, True),
    ],
)
def test_a_lease_is_stale_when_nobody_will_give_it_back(
    status: Status, values: dict[str, object], free: bool
) -> None:
    record = container(uuid="c", status=status, **values)
    assert is_stale(LEASE, "n1", record, before=BEFORE) is free


def test_a_record_that_has_just_changed_is_left_to_whoever_changed_it() -> None:
    record = container(uuid="c", status=Status.FAILED, at=BEFORE, **HERE)
    assert not is_stale(LEASE, "n1", record, before=BEFORE)


def test_the_lease_of_a_container_that_does_not_exist_is_stale() -> None:
    assert is_stale(LEASE, "n1", None, before=BEFORE)
