"""A deployment that answers calls of a model: it has a replica while somebody needs one."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.deployments.decision import Health, Replica, replica_of
from schemas.container import Container, ContainerSpec, RestartPolicy
from schemas.deployment import Deployment, Owner
from schemas.states import ContainerStatus
from schemas.states import DeploymentStatus as Status
from tests.deployments.test_decision import TIMEOUT_S, look, numbers, replicas, slots
from tests.support.records import container, deployment


def called(**values: Any) -> Deployment:
    owner = Owner(model="model", version="1.0.0")
    wanted = {"min_replicas": 0, "max_replicas": 1, "replicas": 1, "slots": slots(1)}
    known = {"next_number": 2, "rollout_timeout_s": TIMEOUT_S}
    return deployment(**{"owner": owner} | wanted | known | values)


def serving() -> Deployment:
    return called(status=Status.DEPLOYED, good="hash-1", ready=1)


def exited(number: int) -> Replica:
    return Replica(number, Health.OVER, "exited with code 3", has_exited=True)


def test_a_start_that_exits_has_three_chances_at_once_and_then_none() -> None:
    second = look(called(), [exited(1)])
    third = look(second, [exited(2)])
    assert (numbers(second), numbers(third)) == ([2], [3])
    given_up = look(third, [exited(3)])
    assert (given_up.status, given_up.replicas, given_up.slots) == (Status.FAILED, 0, [])
    assert given_up.reason == "replica 3: exited with code 3"
    still = look(given_up, [], later_s=1e6)
    assert (still.status, still.reason, still.slots) == (Status.FAILED, given_up.reason, [])


def test_what_cannot_start_at_all_is_given_up_at_once() -> None:
    failed = look(called(), replicas(Health.OVER, 1, why="it cannot be pulled"))
    assert (failed.status, failed.replicas) == (Status.FAILED, 0)


def test_what_finds_no_node_is_given_up_when_its_time_is_over() -> None:
    waiting = replicas(Health.WAITING, 1, why="no node has room")
    assert look(called(), waiting, later_s=TIMEOUT_S - 1).replicas == 1
    late = look(called(), waiting, later_s=TIMEOUT_S)
    assert (late.status, late.replicas) == (Status.FAILED, 0)
    assert look(called(), replicas(Health.STARTING, 1), later_s=TIMEOUT_S).replicas == 1


@pytest.mark.parametrize("is_excused", [True, False])
def test_one_that_was_ready_and_ended_is_not_replaced_before_the_next_call(
    is_excused: bool,
) -> None:
    rested = look(serving(), replicas(Health.OVER, 1, why="gone", is_excused=is_excused))
    assert (rested.status, rested.replicas, rested.slots) == (Status.SCALED_DOWN, 0, [])
    assert rested.reason == "its replica ended: gone"
    assert rested.idle_at is None


def test_one_that_answers_stays_when_the_one_that_is_to_take_its_place_fails() -> None:
    leaving = Replica(1, Health.READY, leaves="node-a")
    moving = look(serving(), [leaving])
    assert numbers(moving) == [1, 2]
    seen = [leaving, *replicas(Health.OVER, 2, why="it cannot be pulled")]
    assert 1 in numbers(look(moving, seen, later_s=TIMEOUT_S))


def test_a_replica_that_nobody_restarts_is_over_once_it_is_not_ready_in_time() -> None:
    def sick(restart: RestartPolicy) -> Container:
        spec = ContainerSpec(image="image", restart=restart)
        return container(status=ContainerStatus.UNHEALTHY, spec=spec)

    assert replica_of(1, sick(RestartPolicy.NO)).health is Health.OVER
    assert replica_of(1, sick(RestartPolicy.ALWAYS)).health is Health.FAILING
